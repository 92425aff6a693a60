use super::*;

const VAULT: &str = "https://vault.azure.net";

const POD: [(&str, &str); 3] = [
    ("AZURE_TENANT_ID", "t-1"),
    ("AZURE_CLIENT_ID", "c-1"),
    ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/tokens/azure-identity-token"),
];

const APP: [(&str, &str); 2] =
    [("IDENTITY_ENDPOINT", "http://127.0.0.1:41/msi/token"), ("IDENTITY_HEADER", "CANARY")];

fn platform(variables: &[(&str, &str)]) -> Platform {
    let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
    Platform::read(None, false, find).unwrap()
}

/// The request on one line.
fn planned(variables: &[(&str, &str)], identity: &str) -> String {
    let identity = identity.parse().unwrap();
    match plan_token(&platform(variables), &identity, VAULT) {
        Ok(TokenRequest::Nearby { url, header: (name, _) }) => format!("GET {url} {name}"),
        Ok(TokenRequest::Exchange { url, client, scope, .. }) => format!("POST {url} {client} {scope}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn each_platform_is_asked_in_its_own_words() {
    let resource = "identity:resource:/s/1/i";
    for (variables, identity, expected) in [
        (
            &[][..],
            "identity:system",
            "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
             &resource=https%3A%2F%2Fvault.azure.net metadata",
        ),
        (
            &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:7/")],
            "identity:client:c",
            "GET http://127.0.0.1:7/metadata/identity/oauth2/token?api-version=2018-02-01\
             &resource=https%3A%2F%2Fvault.azure.net&client_id=c metadata",
        ),
        (
            &[],
            resource,
            "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
             &resource=https%3A%2F%2Fvault.azure.net&msi_res_id=%2Fs%2F1%2Fi metadata",
        ),
        (
            &APP,
            "identity:system",
            "GET http://127.0.0.1:41/msi/token?api-version=2019-08-01\
             &resource=https%3A%2F%2Fvault.azure.net x-identity-header",
        ),
        (
            &APP,
            resource,
            "GET http://127.0.0.1:41/msi/token?api-version=2019-08-01\
             &resource=https%3A%2F%2Fvault.azure.net&mi_res_id=%2Fs%2F1%2Fi x-identity-header",
        ),
        (
            &POD,
            "identity:system",
            "POST https://login.microsoftonline.com/t-1/oauth2/v2.0/token c-1 https://vault.azure.net/.default",
        ),
        (
            &POD,
            "identity:client:other",
            "POST https://login.microsoftonline.com/t-1/oauth2/v2.0/token other https://vault.azure.net/.default",
        ),
        (
            &POD,
            resource,
            "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
             &resource=https%3A%2F%2Fvault.azure.net&msi_res_id=%2Fs%2F1%2Fi metadata",
        ),
        (
            &POD[1..],
            "identity:system",
            "the workload identity of this process is incomplete: AZURE_TENANT_ID is not set",
        ),
        (
            &[POD[0], POD[2]],
            "identity:system",
            "the workload identity of this process is incomplete: AZURE_CLIENT_ID is not set",
        ),
    ] {
        assert_eq!(planned(variables, identity), expected, "{variables:?}");
    }
}

#[test]
fn a_sovereign_authority_comes_from_the_settings_or_the_environment_and_is_https() {
    let of = |setting: Option<&str>, variable: Option<&str>, plain_http| {
        let find = |name: &str| (name == "AZURE_AUTHORITY_HOST").then_some(variable?.to_owned());
        Platform::read(setting, plain_http, find).map(|platform| platform.authority.to_string())
    };
    assert_eq!(
        of(None, Some("https://login.chinacloudapi.cn"), false).unwrap(),
        "https://login.chinacloudapi.cn/"
    );
    assert_eq!(
        of(Some("login.microsoftonline.us"), Some("https://x.y"), false).unwrap(),
        "https://login.microsoftonline.us/"
    );
    assert_eq!(of(None, Some(""), false).unwrap(), "https://login.microsoftonline.com/");
    for (bad, plain_http) in
        [("http://login.example", true), ("http://127.0.0.1:1", false), ("ftp://x", true)]
    {
        assert!(of(Some(bad), None, plain_http).is_err(), "{bad}");
    }
    assert!(of(Some("http://127.0.0.1:1"), None, true).is_ok());
}

#[test]
fn what_the_platform_says_is_not_shown_where_it_is_secret() {
    let shown = format!("{:?} {:#?}", platform(&APP), platform(&APP));
    assert!(!shown.contains("CANARY"), "{shown}");
}

#[test]
fn a_life_is_read_in_each_of_its_forms() {
    let now = Duration::from_secs(1_000_000);
    let life = |body: &str| read_answer(body.as_bytes(), now).map(|granted| granted.life.as_secs());
    for (body, expected) in [
        (r#"{"access_token":"t","expires_in":"86000","expires_on":"5"}"#, Some(86_000)),
        (r#"{"access_token":"t","expires_in":3599,"token_type":"Bearer"}"#, Some(3599)),
        (r#"{"access_token":"t","expires_on":"1000300"}"#, Some(300)),
        (r#"{"access_token":"t","expires_on":1000300}"#, Some(300)),
        (r#"{"access_token":"t","expires_on":"7"}"#, Some(0)),
        (r#"{"access_token":"t","expires_in":99999999}"#, Some(86_400)),
        (r#"{"access_token":"t"}"#, Some(0)),
        (r#"{"access_token":""}"#, None),
        (r#"{"access_token":"a\nb"}"#, None),
        (r#"{"expires_in":1}"#, None),
        ("<html>", None),
    ] {
        assert_eq!(life(body), expected, "{body}");
    }
}

#[test]
fn a_refusal_is_told_by_its_codes_alone() {
    let refusal =
        br#"{"error":"invalid_client","error_description":"AADSTS700213: CANARY","error_codes":[700213]}"#;
    assert_eq!(read_refusal(401, refusal), "invalid_client AADSTS700213");
    assert_eq!(read_refusal(400, br#"{"error":"CANARY CANARY"}"#), "HTTP 400");
    assert_eq!(read_refusal(418, b"CANARY"), "HTTP 418");
}
