use serde_json::json;

use super::*;
use crate::deployment::DeploymentContext;

pub(in crate::deployment) fn context() -> DeploymentContext {
    DeploymentContext {
        subscription: "sub".to_owned(),
        group: "rg".to_owned(),
        location: "westeurope".to_owned(),
        tenant: "tenant".to_owned(),
        name: "first".to_owned(),
        mode: "Incremental".to_owned(),
        vault_suffix: "vault.azure.net".to_owned(),
        correlation_id: "correlation".to_owned(),
        now: "2026-11-25T20:00:00Z".parse().unwrap(),
    }
}

fn frame(parameters: Value, variables: Value) -> Frame {
    let slots = |values: Value, slot: fn(Value) -> Slot| {
        let values = values.as_object().unwrap().clone();
        values.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), slot(value))).collect()
    };
    Frame {
        context: context(),
        place: ("sub".to_owned(), "rg".to_owned()),
        level: 0,
        parameters: slots(parameters, Slot::Value),
        variables: slots(variables, Slot::Raw),
        names: [("pipe".to_owned(), "/x/pipe".to_owned())].into(),
    }
}

fn invalid(result: Evaluated<Value>) -> (String, String) {
    match result {
        Err(Fault::Invalid { at, message }) => (at, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn expressions_see_parameters_variables_and_where_they_are() {
    let frame = frame(
        json!({"name": "contoso", "list": ["a", "b"], "tree": {"Leaf": {"x-y": 1}}}),
        json!({"joined": "[concat(parameters('NAME'), variables('end'))]", "end": "1", "[[raw]": 0}),
    );
    for (written, expected) in [
        ("[variables('Joined')]", json!("contoso1")),
        ("[parameters('list')[1]]", json!("b")),
        ("[parameters('tree').leaf['x-y']]", json!(1)),
        ("[resourceGroup().location]", json!("westeurope")),
        ("[resourceGroup().id]", json!("/subscriptions/sub/resourceGroups/rg")),
        ("[subscription().tenantId]", json!("tenant")),
        ("[deployment().name]", json!("first")),
        ("[concat('v', environment().suffixes.keyvaultDns)]", json!("v.vault.azure.net")),
        ("[utcNow()]", json!("20261125T200000Z")),
        (
            "[resourceId('Microsoft.X/a/b/', 'one', 'two')]",
            json!("/subscriptions/sub/resourceGroups/rg/providers/Microsoft.X/a/one/b/two"),
        ),
        (
            "[resourceId('g2', 'Microsoft.X/a', 'n')]",
            json!("/subscriptions/sub/resourceGroups/g2/providers/Microsoft.X/a/n"),
        ),
        (
            "[resourceId('s2', 'g2', 'Microsoft.X/a', 'n')]",
            json!("/subscriptions/s2/resourceGroups/g2/providers/Microsoft.X/a/n"),
        ),
        (
            "[subscriptionResourceId('Microsoft.X/a', 'n')]",
            json!("/subscriptions/sub/providers/Microsoft.X/a/n"),
        ),
        ("[[not an expression]", json!("[not an expression]")),
    ] {
        assert_eq!(Evaluation::early(&frame).value(&json!(written)), Ok(expected), "{written}");
    }
}

#[test]
fn what_does_not_matter_is_not_evaluated() {
    let frame = frame(json!({"off": false}), json!({"broken": "[parameters('missing')]"}));
    for (written, expected) in [
        ("[if(parameters('off'), variables('broken'), 'else')]", json!("else")),
        ("[and(parameters('off'), variables('broken'))]", json!(false)),
        ("[or(not(parameters('off')), variables('broken'))]", json!(true)),
        ("[coalesce(null(), 'x', variables('broken'))]", json!("x")),
        ("[or(false(), false())]", json!(false)),
    ] {
        assert_eq!(Evaluation::early(&frame).value(&json!(written)), Ok(expected), "{written}");
    }
    let (at, message) = invalid(Evaluation::early(&frame).value(&json!({"a": ["[variables('broken')]"]})));
    assert_eq!(at, "a[0].variables('broken')");
    assert!(message.contains("no parameter \"missing\""), "{message}");
}

#[test]
fn keys_are_evaluated_too() {
    let frame = frame(json!({"identity": "/x/i"}), json!({}));
    let value = Evaluation::early(&frame).value(&json!({"[parameters('identity')]": {}}));
    assert_eq!(value, Ok(json!({"/x/i": {}})));
}

#[test]
fn a_reference_finds_what_is_known_and_says_what_is_not() {
    let frame = frame(json!({}), json!({}));
    let known: Known =
        [("/x/pipe".to_owned(), json!({"identity": {"principalId": "p"}, "properties": {"a": 1}}))].into();
    for (written, expected) in [
        ("[reference('/X/Pipe/', '2025-06-01-preview', 'full').identity.principalId]", json!("p")),
        ("[reference('pipe').a]", json!(1)),
        ("[reference('/x/pipe', '2019-12-01-preview').a]", json!(1)),
    ] {
        assert_eq!(Evaluation::late(&frame, &known).value(&json!(written)), Ok(expected), "{written}");
    }
    let needs = Evaluation::late(&frame, &known).value(&json!("[reference('/x/Other').a]"));
    assert_eq!(needs, Err(Fault::Needs("/x/other".to_owned())));
    assert_eq!(
        Evaluation::early(&frame).value(&json!("[reference('pipe')]")),
        Err(Fault::Needs("/x/pipe".to_owned()))
    );
    invalid(Evaluation::late(&frame, &known).value(&json!("[reference('nobody')]")));
}

#[test]
fn mistakes_are_named() {
    let frame = frame(json!({"list": [1], "tree": {"a": 1}}), json!({}));
    for (written, why) in [
        ("[listKeys('x')]", "no function \"listKeys\""),
        ("[if('true', 1, 2)]", "must be a bool"),
        ("[if(true(), 1)]", "does not take 2 arguments"),
        ("[parameters(1)]", "must be a string"),
        ("[parameters('list')[1]]", "no element 1; the array has 1"),
        ("[parameters('list').x]", "an array has no property \"x\""),
        ("[parameters('tree').b]", "there is no property \"b\"; there are: a"),
        ("[parameters('tree')[0]]", "an object has no elements"),
        ("[resourceId('a', 'b')]", "none of its arguments is a type"),
        ("[utcNow('d')]", "only its default format"),
        ("[concat(", ""),
    ] {
        let evaluated = Evaluation::early(&frame).value(&json!(written));
        match why {
            "" => assert_eq!(evaluated, Ok(json!("[concat("))),
            why => assert!(invalid(evaluated).1.contains(why), "{written}"),
        }
    }
}

#[test]
fn what_refers_to_itself_and_what_grows_without_bound_ends() {
    let mut variables = serde_json::Map::new();
    variables.insert("v0".to_owned(), json!("x".repeat(100)));
    for index in 1..=30 {
        let before = format!("variables('v{}')", index - 1);
        variables.insert(
            format!("v{index}"),
            json!(["[BEFORE]".replace("BEFORE", &before), "[BEFORE]".replace("BEFORE", &before)]),
        );
    }
    variables.insert("self".to_owned(), json!("[variables('self')]"));
    let frame = frame(json!({}), Value::Object(variables));
    let (_, grows) = invalid(Evaluation::early(&frame).value(&json!("[variables('v30')]")));
    assert!(grows.contains("8 MiB"), "{grows}");
    let (_, turns) = invalid(Evaluation::early(&frame).value(&json!("[variables('self')]")));
    assert!(turns.contains("refers to itself"), "{turns}");
}
