//! The store's contract, on each database that it knows.

mod dead_letters;
mod durability;
mod facts;
mod load;
mod outbox;
mod postgres;
mod resources;
mod runs;
mod scene;
mod schema;
mod triggers;

/// Runs each case with SQLite as a test of its own, and lists them for PostgreSQL, where they share a server.
macro_rules! cases {
    ($($module:ident :: $case:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $case() -> anyhow::Result<()> {
                    crate::$module::$case(&crate::scene::Scene::sqlite().await?).await
                }
            )+
        }

        /// Every case on a fresh database of `server`.
        async fn on_postgres(server: &transship_rig::Postgres) -> anyhow::Result<()> {
            $(
                let scene = crate::scene::Scene::postgres(server).await?;
                let case = crate::$module::$case(&scene).await;
                anyhow::Context::context(case, stringify!($case))?;
                scene.store.close().await;
            )+
            Ok(())
        }
    };
}

cases! {
    resources::a_resource_is_made_replaced_and_deleted_whatever_the_case_of_its_id,
    resources::resources_are_listed_oldest_first_by_registry_and_by_kind,
    resources::a_pipeline_that_is_deleted_takes_along_what_its_trigger_and_schedule_remember,
    resources::a_deployment_is_kept_as_it_ended_last,
    runs::a_run_goes_from_accepted_to_succeeded,
    runs::what_was_asked_for_is_read_back_as_it_was,
    runs::a_decision_sees_the_run_and_two_at_once_make_one,
    runs::a_run_that_is_forced_again_keeps_its_place_and_begins_anew,
    runs::generations_are_never_given_twice,
    runs::a_run_that_waits_says_for_what,
    runs::a_run_begins_once_and_only_while_it_is_current,
    runs::a_run_is_ended_once_with_what_was_to_be_done_for_it,
    runs::a_run_that_is_deleted_takes_along_its_parts_and_what_was_to_be_done,
    runs::runs_that_ended_long_ago_are_swept_the_oldest_first_and_a_few_at_a_time,
    runs::work_that_is_dispatched_again_counts_its_attempts_anew,
    runs::an_export_that_is_over_is_watched_and_dispatched_again_until_its_copies_are_over,
    runs::lists_tell_what_each_import_brought,
    runs::a_run_that_was_begun_may_say_that_it_waits,
    runs::exports_are_found_by_their_blob_and_by_that_of_a_part,
    runs::runs_are_found_by_an_artifact_that_they_name_or_that_their_parts_tell_of,
    outbox::what_is_to_be_done_is_due_in_its_order_until_it_is_done,
    facts::facts_of_an_execution_that_was_never_here_are_told_from_those_of_one_that_is_gone,
    facts::a_run_ends_with_its_last_part_and_what_comes_later_is_history,
    facts::an_adopted_import_shares_the_parts_of_the_export,
    facts::an_import_that_is_adopted_alone_may_be_about_one_part,
    facts::a_message_that_could_not_be_understood_fails_the_run_as_it_is_now,
    facts::facts_at_once_are_folded_together_and_each_is_answered,
    dead_letters::the_same_letter_is_stored_once,
    dead_letters::letters_are_listed_with_the_runs_that_they_are_of,
    dead_letters::a_letter_that_is_put_back_has_its_failed_run_run_again,
    triggers::a_trigger_remembers_the_last_version_of_each_blob,
    triggers::an_import_has_one_owner,
    triggers::a_schedule_remembers_each_tag,
    triggers::a_schedule_forgets_the_tags_that_a_run_did_not_deliver_when_it_is_deleted,
    load::lists_neither_miss_nor_repeat_a_run_while_others_are_made,
}
