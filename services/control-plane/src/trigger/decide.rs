//! What becomes of a blob that lies in the container of an import pipeline. Pure.

use jiff::Timestamp;
use transship_api::ResourceId;
use transship_model::PipelineName;
use transship_storage::Metadata;

/// What is known of a blob.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    /// Its length in bytes.
    pub(crate) length: u64,
    /// When it was last changed, in milliseconds since the Unix epoch.
    pub(crate) modified_ms: Option<i64>,
    /// Whether the service still copies its content.
    pub(crate) copying: bool,
    /// When the trigger first saw this version of it, in milliseconds since the Unix epoch.
    pub(crate) first_ms: i64,
    /// What a closer look found; `None` before it.
    pub(crate) inspected: Option<&'a Inspected>,
}

/// What a closer look at a blob found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inspected {
    /// Whether the pipeline of this trigger was promised an announcement of the blob.
    pub(crate) announced: bool,
    /// Whether the importer has begun with that announcement: facts of it have arrived.
    pub(crate) heard: bool,
    /// What its first bytes say.
    pub(crate) head: Head,
    /// Whether a bundle of transship has lost the metadata that it was written with.
    pub(crate) stripped: bool,
}

/// What the first bytes of a blob say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Head {
    /// A bundle of transship.
    Bundle,
    /// An OCI archive that another tool wrote.
    Archive,
    /// Something else, and why.
    Other(String),
}

/// The rules of the triggers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Blobs that were changed longer ago are left alone; 0 is no limit. In days.
    pub(crate) max_age_days: u32,
    /// How long a blob is left to the pipeline that a copier will announce it to, in milliseconds.
    pub(crate) announce_grace_ms: i64,
    /// Now, in milliseconds since the Unix epoch.
    pub(crate) now_ms: i64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Its metadata and its first bytes decide.
    Inspect,
    /// Start a run of its own.
    Import {
        /// What a person should know all the same.
        note: Option<String>,
    },
    /// Show the import that was announced and is under way as a run.
    Adopt,
    /// Leave it for now.
    Wait {
        /// Why, for a person.
        reason: String,
        /// Until when, in milliseconds since the Unix epoch.
        until_ms: i64,
    },
    /// Do not import it.
    Ignore {
        /// Why, for a person, and what to do about it.
        reason: String,
    },
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Decides on a blob. Neither its metadata nor its Content-MD5 make it a bundle: tools that copy blobs drop both.
pub(crate) fn decide_blob(sight: &Sight<'_>, rules: &Rules) -> Decision {
    if sight.copying {
        return Decision::Wait {
            reason: "the storage service still copies it from elsewhere; it is looked at again".to_owned(),
            until_ms: rules.now_ms,
        };
    }
    if sight.length == 0 {
        return ignore("it is empty; it is looked at again once it has content");
    }
    if let Some(reason) = too_old(sight.modified_ms, rules) {
        return Decision::Ignore { reason };
    }
    let Some(inspected) = sight.inspected else { return Decision::Inspect };
    if let Head::Other(why) = &inspected.head {
        let hint =
            "upload a bundle of transship or an OCI archive; the blob is looked at again when it changes";
        return ignore(&format!("{why} ({hint})"));
    }
    if inspected.announced {
        if inspected.heard {
            return Decision::Adopt;
        }
        // A clock that is ahead must not make anybody wait longer than the grace.
        let since = sight.modified_ms.map_or(sight.first_ms, |modified| modified.min(sight.first_ms));
        let until_ms = since + rules.announce_grace_ms;
        if rules.now_ms < until_ms {
            let reason = format!(
                "a copier will announce it to this pipeline; it is imported without that from {} on",
                shown(until_ms)
            );
            return Decision::Wait { reason, until_ms };
        }
    }
    Decision::Import { note: note(inspected) }
}

fn ignore(reason: &str) -> Decision {
    Decision::Ignore { reason: reason.to_owned() }
}

fn too_old(modified_ms: Option<i64>, rules: &Rules) -> Option<String> {
    let (modified, days) = (modified_ms?, rules.max_age_days);
    (days > 0 && rules.now_ms - modified > i64::from(days) * DAY_MS).then(|| {
        format!(
            "it was last changed on {}, more than {days} days ago (start a run by hand, or set metadata on the blob, \
             which makes it new; the age is the trigger's max_age_days)",
            shown(modified)
        )
    })
}

/// What a person should know of a blob that is imported.
fn note(inspected: &Inspected) -> Option<String> {
    let mut notes = Vec::new();
    if inspected.announced {
        notes.push("the announcement that a copier promised did not come in time".to_owned());
    }
    if inspected.head == Head::Archive {
        notes.push("an OCI archive of another tool".to_owned());
    }
    if inspected.stripped {
        notes.push(
            "known as a bundle by its content: the tool that copied it took away its metadata, without which \
             Azure's own trigger ignores a blob"
                .to_owned(),
        );
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Whether a blob has lost the metadata with which transship writes every bundle. Nothing here depends on it, but it
/// tells a person what the tool does that brought the blob.
pub(crate) fn is_stripped(head: &Head, metadata: &Metadata) -> bool {
    *head == Head::Bundle && !metadata.contains_key("category")
}

/// Whether an announcement to `name` is one to the pipeline `id`: in messages a pipeline of the API is called
/// `REGISTRY.PIPELINE`, and one of an importer's own configuration has a plain name.
pub(crate) fn is_announced_to(name: &PipelineName, id: &ResourceId) -> bool {
    let name = name.as_str();
    // Both may hold dots themselves.
    name.eq_ignore_ascii_case(&format!("{}.{}", id.registry, id.name()))
        || name.eq_ignore_ascii_case(id.name())
}

fn shown(ms: i64) -> String {
    Timestamp::from_millisecond(ms).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use transship_api::Kind;

    use super::*;

    const NOW: i64 = 1_767_225_600_000;
    const MINUTE: i64 = 60_000;
    const RULES: Rules = Rules { max_age_days: 60, announce_grace_ms: 10 * MINUTE, now_ms: NOW };

    fn look(head: Head) -> Inspected {
        Inspected { announced: false, heard: false, head, stripped: false }
    }

    fn sight(inspected: Option<&Inspected>) -> Sight<'_> {
        Sight { length: 10_240, modified_ms: Some(NOW - MINUTE), copying: false, first_ms: NOW, inspected }
    }

    fn is(decision: &Decision) -> (&'static str, String) {
        match decision {
            Decision::Inspect => ("inspect", String::new()),
            Decision::Import { note } => ("import", note.clone().unwrap_or_default()),
            Decision::Adopt => ("adopt", String::new()),
            Decision::Wait { reason, .. } => ("wait", reason.clone()),
            Decision::Ignore { reason } => ("ignore", reason.clone()),
        }
    }

    #[test]
    fn every_blob_is_imported_or_says_why_not() {
        let bundle = look(Head::Bundle);
        let archive = look(Head::Archive);
        let other = look(Head::Other("it is not a tar archive".to_owned()));
        let promised = Inspected { announced: true, ..bundle.clone() };
        let begun = Inspected { heard: true, ..promised.clone() };
        let promised_other = Inspected { announced: true, ..other.clone() };
        let copied = Inspected { stripped: true, ..bundle.clone() };
        let old = NOW - 61 * DAY_MS;
        for (sight, expected, reason) in [
            (sight(None), "inspect", ""),
            (sight(Some(&bundle)), "import", ""),
            (sight(Some(&archive)), "import", "another tool"),
            (sight(Some(&other)), "ignore", "not a tar archive (upload"),
            (sight(Some(&copied)), "import", "took away its metadata"),
            (Sight { copying: true, ..sight(None) }, "wait", "still copies"),
            (Sight { length: 0, ..sight(None) }, "ignore", "empty"),
            (Sight { modified_ms: Some(old), ..sight(None) }, "ignore", "more than 60 days ago (start a run"),
            (Sight { modified_ms: Some(old), ..sight(Some(&bundle)) }, "ignore", "2025-11-01"),
            (Sight { modified_ms: None, ..sight(Some(&bundle)) }, "import", ""),
            (Sight { modified_ms: Some(NOW + DAY_MS), ..sight(Some(&bundle)) }, "import", ""),
            (sight(Some(&promised)), "wait", "will announce it"),
            (sight(Some(&begun)), "adopt", ""),
            (sight(Some(&promised_other)), "ignore", "not a tar"),
            (
                Sight { modified_ms: Some(NOW - 11 * MINUTE), ..sight(Some(&promised)) },
                "import",
                "did not come in time",
            ),
            (Sight { modified_ms: Some(NOW - 11 * MINUTE), ..sight(Some(&begun)) }, "adopt", ""),
            (
                Sight {
                    modified_ms: Some(NOW + DAY_MS),
                    first_ms: NOW - 11 * MINUTE,
                    ..sight(Some(&promised))
                },
                "import",
                "did not come in time",
            ),
        ] {
            let (decided, said) = is(&decide_blob(&sight, &RULES));
            assert_eq!(decided, expected, "{sight:?}");
            assert!(said.contains(reason) && (!reason.is_empty() || said.is_empty()), "{sight:?}: {said}");
        }
    }

    #[test]
    fn without_a_limit_no_blob_is_too_old() {
        let bundle = look(Head::Bundle);
        let old = Sight { modified_ms: Some(0), ..sight(Some(&bundle)) };
        let rules = Rules { max_age_days: 0, ..RULES };
        assert_eq!(decide_blob(&old, &rules), Decision::Import { note: None });
    }

    #[test]
    fn the_grace_ends_at_a_time_that_is_told() {
        let promised = Inspected { announced: true, ..look(Head::Bundle) };
        let Decision::Wait { until_ms, .. } = decide_blob(&sight(Some(&promised)), &RULES) else { panic!() };
        assert_eq!(until_ms, NOW + 9 * MINUTE);
        let then = Rules { now_ms: until_ms, ..RULES };
        assert_eq!(is(&decide_blob(&sight(Some(&promised)), &then)).0, "import");
    }

    #[test]
    fn an_announcement_names_a_pipeline_of_the_api_or_a_plain_one() {
        let id = ResourceId::registry("s", "g", "Contoso").child(Kind::ImportPipeline, "Inbox");
        let dotted = ResourceId::registry("s", "g", "my.registry").child(Kind::ImportPipeline, "in.box");
        for (id, name, expected) in [
            (&id, "Contoso.Inbox", true),
            (&id, "contoso.inbox", true),
            (&id, "inbox", true),
            (&id, "other.inbox", false),
            (&id, "contoso.other", false),
            (&id, "outbox", false),
            (&dotted, "my.registry.in.box", true),
            (&dotted, "in.box", true),
            (&dotted, "my.registry", false),
            (&dotted, "registry.in.box", false),
        ] {
            assert_eq!(is_announced_to(&name.parse().unwrap(), id), expected, "{name}");
        }
    }

    #[test]
    fn only_a_bundle_can_have_lost_its_metadata() {
        let kept = Metadata::from([("category".to_owned(), "acr-transfer-blob".to_owned())]);
        for (head, metadata, expected) in [
            (Head::Bundle, &kept, false),
            (Head::Bundle, &Metadata::new(), true),
            (Head::Archive, &Metadata::new(), false),
            (Head::Other("x".to_owned()), &Metadata::new(), false),
        ] {
            assert_eq!(is_stripped(&head, metadata), expected, "{head:?} {metadata:?}");
        }
    }
}
