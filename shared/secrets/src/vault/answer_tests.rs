use std::time::Duration;

use secrecy::zeroize::Zeroizing;

use super::*;

fn secret(host: &str) -> VaultSecret {
    format!("https://{host}/secrets/sas").parse().unwrap()
}

#[test]
fn a_challenge_may_only_name_a_service_that_the_vault_belongs_to() {
    let vault = secret("team.vault.azure.net");
    for (challenge, expected) in [
        (
            r#"Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net""#,
            Ok("https://vault.azure.net"),
        ),
        (
            r#"Bearer authorization="https://x", scope="https://vault.azure.net/.default""#,
            Ok("https://vault.azure.net"),
        ),
        (r#"bearer resource="https://vault.azure.net/""#, Ok("https://vault.azure.net")),
        (
            r#"Bearer resource="https://storage.azure.com""#,
            Err("for storage.azure.com, which it does not belong to"),
        ),
        (
            r#"Bearer resource="https://ault.azure.net""#,
            Err("for ault.azure.net, which it does not belong to"),
        ),
        (r#"Bearer resource="http://vault.azure.net""#, Err("for something that is not a service")),
        (r#"Bearer resource="https://vault.azure.net/x""#, Err("for something that is not a service")),
        (r#"Bearer resource="CANARY""#, Err("for something that is not a service")),
        (r#"Bearer authorization="https://x""#, Err("and does not say for which service")),
        (r#"Basic realm="x""#, Err("of a kind that is not Bearer")),
        ("", Err("of a kind that is not Bearer")),
    ] {
        let read = read_challenge(&vault, Some(challenge)).map_err(|error| match error {
            VaultError::Challenge { problem, .. } => problem,
            other => other.to_string(),
        });
        assert_eq!(read.as_deref().map_err(String::as_str), expected, "{challenge}");
    }
    assert!(read_challenge(&vault, None).is_err());
    let china =
        read_challenge(&secret("a.vault.azure.cn"), Some(r#"Bearer resource="https://vault.azure.cn""#));
    assert_eq!(china.unwrap(), "https://vault.azure.cn");
}

#[test]
fn a_secret_is_given_out_within_its_dates_only() {
    let now = Timestamp::from_second(1_000).unwrap();
    let read = |body: &str| match read_secret(&secret("v.example"), body.as_bytes(), now) {
        Ok(value) => value.expose().to_owned(),
        Err(error) => error.to_string(),
    };
    for (body, expected) in [
        (r#"{"value":" ?sig=x \n","attributes":{"enabled":true,"nbf":1000,"exp":1001}}"#, "?sig=x"),
        (r#"{"value":"x"}"#, "x"),
        (
            r#"{"value":"CANARY","attributes":{"enabled":false}}"#,
            "secret https://v.example/secrets/sas is disabled",
        ),
        (
            r#"{"value":"CANARY","attributes":{"nbf":1001}}"#,
            "secret https://v.example/secrets/sas is valid from 1970-01-01T00:16:41Z on",
        ),
        (
            r#"{"value":"CANARY","attributes":{"exp":1000}}"#,
            "secret https://v.example/secrets/sas expired at 1970-01-01T00:16:40Z",
        ),
        (r#"{"value":" "}"#, "secret https://v.example/secrets/sas is empty"),
        (
            "<html>CANARY</html>",
            "https://v.example/secrets/sas cannot be read: the vault is not available: its answer holds no secret",
        ),
    ] {
        assert_eq!(read(body), expected, "{body}");
    }
}

#[test]
fn each_refusal_has_a_message_and_a_hint_of_its_own() {
    let judge = |status, body: &str| {
        let answer = Answer {
            status,
            challenge: None,
            retry_after: Some(Duration::from_secs(7)),
            body: Zeroizing::new(body.as_bytes().to_vec()),
        };
        let error = read_refusal(&secret("v.example"), &Identity::Client("c".into()), &answer);
        (error.to_string(), error.hint().unwrap_or_default())
    };
    let inner = |code: &str| {
        format!(r#"{{"error":{{"code":"Forbidden","message":"CANARY","innererror":{{"code":"{code}"}}}}}}"#)
    };
    for (status, body, message, hint) in [
        (
            403,
            inner("ForbiddenByRbac"),
            "refuses identity:client:c (ForbiddenByRbac)",
            "identity:client:c the right secrets/get",
        ),
        (403, "CANARY".to_owned(), "refuses identity:client:c (HTTP 403)", "Key Vault Secrets User"),
        (403, inner("ForbiddenByFirewall"), "firewall does not let this process in", "firewall of v.example"),
        (403, inner("SecretDisabled"), "is disabled", "enable the secret"),
        (401, inner("x y"), "does not know identity:client:c (Forbidden)", "in the tenant of v.example"),
        (
            404,
            inner("SecretNotFound"),
            "there is no secret https://v.example/secrets/sas",
            "create the secret sas",
        ),
        (429, inner("Throttled"), "not available: Throttled", ""),
        (400, inner("BadParameter"), "the vault answers BadParameter", "address of the secret"),
    ] {
        let (shown, advice) = judge(status, &body);
        assert!(shown.contains(message) && advice.contains(hint), "{status}: {shown} / {advice}");
        assert!(!format!("{shown}{advice}").contains("CANARY"), "{shown}");
    }
}
