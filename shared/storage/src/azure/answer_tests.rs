use transship_model::Secret;

use super::*;

fn answer(status: u16, code: &str) -> Answer {
    Answer { status, code: (!code.is_empty()).then(|| code.to_owned()), ..Answer::default() }
}

/// The variant's name, and for some what it carries.
fn named(error: &StorageError) -> String {
    match error {
        StorageError::SasExpired { expired_at, .. } => format!("SasExpired {expired_at}"),
        StorageError::SasPermission { missing, granted, .. } => {
            format!("SasPermission {missing} of {granted}")
        }
        StorageError::Forbidden { code, .. } => format!("Forbidden {code}"),
        StorageError::CopyUnsupported { code, .. } => format!("CopyUnsupported {code}"),
        StorageError::Refused { code, .. } => format!("Refused {code}"),
        StorageError::Unavailable { reason, .. } => format!("Unavailable {reason}"),
        other => format!("{other:?}").split(' ').next().unwrap_or_default().to_owned(),
    }
}

fn judge(operation: Operation, answer: &Answer, sas: &str) -> String {
    let container: ContainerUrl = "https://a.blob.core.windows.net/c".parse().unwrap();
    let blob: BlobName = "b".parse().unwrap();
    let sas = (!sas.is_empty()).then(|| SasToken::parse(&Secret::new(sas)).unwrap());
    let blob = (operation != Operation::List).then_some(&blob);
    let question = Question { operation, container: &container, blob, sas: sas.as_ref(), identity: None };
    named(&question.judge(answer, "2026-11-22T10:00:00Z".parse().unwrap()))
}

#[test]
fn each_answer_has_one_meaning() {
    use Operation as O;
    for (operation, status, code, expected) in [
        (O::Read, 404, "BlobNotFound", "BlobNotFound"),
        (O::Read, 404, "", "BlobNotFound"),
        (O::Read, 404, "ContainerNotFound", "ContainerNotFound"),
        (O::List, 404, "", "ContainerNotFound"),
        (O::Stage, 409, "ContainerBeingDeleted", "Unavailable ContainerBeingDeleted"),
        (O::Commit, 409, "BlobAlreadyExists", "ConditionFailed"),
        (O::Commit, 412, "ConditionNotMet", "ConditionFailed"),
        (O::Commit, 403, "UnauthorizedBlobOverwrite", "ConditionFailed"),
        (O::Commit, 412, "LeaseIdMissing", "Unavailable LeaseIdMissing"),
        (O::Commit, 400, "InvalidBlockList", "InvalidBlockList"),
        (O::Stage, 400, "InvalidBlobOrBlock", "InvalidBlockList"),
        (O::Read, 416, "InvalidRange", "RangeNotSatisfiable"),
        (O::Delete, 409, "BlobImmutableDueToPolicy", "Refused BlobImmutableDueToPolicy"),
        (O::Stage, 413, "RequestBodyTooLarge", "Refused RequestBodyTooLarge"),
        (O::Stage, 503, "ServerBusy", "Unavailable ServerBusy"),
        (O::Stage, 500, "OperationTimedOut", "Unavailable OperationTimedOut"),
        (O::Stage, 500, "", "Unavailable HTTP 500"),
        (O::Read, 307, "", "Refused HTTP 307"),
        (
            O::Read,
            409,
            "PublicAccessNotPermitted",
            "Forbidden PublicAccessNotPermitted: no SAS token is configured",
        ),
    ] {
        assert_eq!(judge(operation, &answer(status, code), ""), expected, "{operation:?} {status} {code}");
    }
}

#[test]
fn a_refused_token_is_told_apart_by_what_it_says() {
    use Operation as O;
    let expired = "sr=c&sp=r&se=2026-11-22T09:00:00Z&sig=x";
    let valid = "sr=c&sp=rl&se=2026-11-23T09:00:00Z&sig=x";
    for (operation, code, sas, expected) in [
        (O::Read, "AuthenticationFailed", expired, "SasExpired 2026-11-22T09:00:00Z"),
        (O::Read, "AuthorizationFailure", expired, "SasExpired 2026-11-22T09:00:00Z"),
        (O::Read, "", expired, "SasExpired 2026-11-22T09:00:00Z"),
        (O::Read, "AuthenticationFailed", valid, "Forbidden AuthenticationFailed"),
        (O::Stage, "AuthorizationPermissionMismatch", valid, "SasPermission w of rl"),
        (O::Delete, "AuthorizationPermissionMismatch", valid, "SasPermission d of rl"),
        (O::Read, "AuthorizationPermissionMismatch", valid, "Forbidden AuthorizationPermissionMismatch"),
        (O::List, "AuthorizationPermissionMismatch", "sr=c&sp=r&sig=x", "SasPermission l of r"),
        (
            O::Read,
            "KeyBasedAuthenticationNotPermitted",
            expired,
            "Forbidden KeyBasedAuthenticationNotPermitted",
        ),
        (
            O::Read,
            "AuthenticationFailed",
            "sr=c&sp=r&st=2026-11-22T11:00:00Z&sig=x",
            "Forbidden AuthenticationFailed: the SAS token is valid from 2026-11-22T11:00:00Z on",
        ),
        (
            O::List,
            "AuthorizationResourceTypeMismatch",
            "ss=b&srt=o&sp=l&sig=x",
            "Forbidden AuthorizationResourceTypeMismatch: \
             the SAS token does not cover this kind of resource (`srt` has no c)",
        ),
        (
            O::Read,
            "NoAuthenticationInformation",
            "",
            "Forbidden NoAuthenticationInformation: no SAS token is configured",
        ),
    ] {
        assert_eq!(judge(operation, &answer(403, code), sas), expected, "{operation:?} {code}");
    }
    let slow_clock_here =
        Answer { date: Some("2026-11-24T00:00:00Z".parse().unwrap()), ..answer(403, "AuthenticationFailed") };
    assert_eq!(judge(O::Read, &slow_clock_here, valid), "SasExpired 2026-11-23T09:00:00Z");
}

#[test]
fn a_refused_identity_is_told_which_role_it_lacks() {
    let container: ContainerUrl = "https://a.blob.core.windows.net/c".parse().unwrap();
    let (blob, identity) = ("b".parse().unwrap(), Identity::Client("c-1".into()));
    let question = Question {
        operation: Operation::Stage,
        container: &container,
        blob: Some(&blob),
        sas: None,
        identity: Some(&identity),
    };
    for (status, code) in [(403, "AuthorizationPermissionMismatch"), (401, "InvalidAuthenticationInfo")] {
        let error = question.judge(&answer(status, code), "2026-11-22T10:00:00Z".parse().unwrap());
        let shown = format!("{container} refuses identity:client:c-1 (writing blobs): {code}");
        assert_eq!(error.to_string(), shown);
        let hint = transship_model::Failure::from(error).hint.unwrap();
        assert!(hint.contains("Storage Blob Data Contributor"), "{hint}");
    }
}

#[test]
fn a_copy_that_the_services_cannot_do_is_told_apart_from_a_changed_source() {
    let from = |status, code: &str, source: Option<(u16, &str)>| {
        let answer = Answer {
            source_status: source.map(|(status, _)| status),
            source_code: source.map(|(_, code)| code.to_owned()),
            ..answer(status, code)
        };
        judge(Operation::StageFrom, &answer, "")
    };
    for (found, expected) in [
        (from(501, "APINotImplemented", None), "CopyUnsupported APINotImplemented"),
        (from(501, "", None), "CopyUnsupported HTTP 501"),
        (from(409, "CannotVerifyCopySource", None), "CopyUnsupported CannotVerifyCopySource"),
        (from(404, "CannotVerifyCopySource", None), "CopyUnsupported CannotVerifyCopySource"),
        (
            from(403, "CannotVerifyCopySource", Some((403, "AuthenticationFailed"))),
            "CopyUnsupported CannotVerifyCopySource: the source answers 403 AuthenticationFailed",
        ),
        (from(412, "SourceConditionNotMet", None), "ConditionFailed"),
        (from(412, "CannotVerifyCopySource", None), "ConditionFailed"),
        (from(409, "CannotVerifyCopySource", Some((412, "ConditionNotMet"))), "ConditionFailed"),
        (
            from(503, "CannotVerifyCopySource", Some((503, "ServerBusy"))),
            "Unavailable CannotVerifyCopySource",
        ),
        (from(503, "ServerBusy", None), "Unavailable ServerBusy"),
        (from(500, "InternalError", None), "Unavailable InternalError"),
        (from(404, "ContainerNotFound", None), "ContainerNotFound"),
        (
            from(403, "AuthorizationFailure", None),
            "Forbidden AuthorizationFailure: no SAS token is configured",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn only_codes_made_of_letters_and_digits_are_shown() {
    assert_eq!(clean_code("BlobNotFound").as_deref(), Some("BlobNotFound"));
    for hostile in ["", "a b", "sig=CANARY", "a\nb", "<script>", &"x".repeat(65)] {
        assert_eq!(clean_code(hostile), None, "{hostile:?}");
    }
    assert_eq!(code_in_body(b"<Error><Code>ServerBusy</Code></Error>").as_deref(), Some("ServerBusy"));
    assert_eq!(code_in_body(b"<html>sig=CANARY</html>"), None);
}

#[test]
fn a_wish_to_wait_is_read_in_each_of_its_forms() {
    let headers = |name: &'static str, value: &str| {
        let mut headers = Headers::new();
        headers.insert(HeaderName::from_static(name), value.to_owned());
        retry_after(&headers)
    };
    assert_eq!(headers("x-ms-retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
    assert_eq!(headers("retry-after", "7"), Some(Duration::from_secs(7)));
    assert_eq!(headers("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    assert_eq!(headers("retry-after", "soon"), None);
    assert_eq!(headers("date", "7"), None);
}
