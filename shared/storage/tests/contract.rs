//! What every container does, whatever it is made of. The same cases run on the twin in memory, on a local
//! directory and on a real Azurite.

#[path = "contract/adapters.rs"]
mod adapters;
#[path = "contract/cases.rs"]
mod cases;
#[path = "contract/conditions.rs"]
mod conditions;

/// One test for each case, in a module of its own for each adapter.
macro_rules! contract {
    ($($module:ident: $($case:ident),+ $(,)?;)+) => {
        contract!(@on memory: $($module: $($case),+;)+);
        contract!(@on directory: $($module: $($case),+;)+);
        contract!(@on azurite: $($module: $($case),+;)+);
    };
    (@on $adapter:ident: $($module:ident: $($case:ident),+;)+) => {
        mod $adapter {
            $($(
                #[tokio::test]
                async fn $case() -> anyhow::Result<()> {
                    let fixture = super::adapters::$adapter().await?;
                    super::$module::$case(&fixture).await
                }
            )+)+
        }
    };
}

contract! {
    cases:
        blocks_are_committed_in_the_order_of_the_list,
        staging_an_identifier_again_replaces_the_block,
        a_blob_of_staged_blocks_alone_is_not_there,
        a_commit_drops_the_staged_blocks_that_it_does_not_name,
        committed_blocks_may_be_committed_again_among_new_ones,
        a_block_that_is_not_there_makes_the_list_invalid,
        identifiers_of_two_lengths_are_refused,
        staged_blocks_change_nothing_before_the_commit,
        a_range_is_read_exactly_or_not_at_all,
        metadata_comes_back_with_lower_case_keys,
        a_blob_without_blocks_has_no_bytes,
        a_listing_holds_committed_blobs_with_the_prefix,
        a_listing_and_the_blob_say_the_same_version_and_time,
        a_listing_comes_in_pages_of_5000,
        a_blob_that_is_not_there_is_named,
        a_container_that_is_not_there_is_named,
        identifiers_are_bytes_of_any_value,
        blocks_of_8_mib_arrive_whole,
        three_hundred_blocks_keep_their_order,
        blocks_are_staged_in_parallel,
        what_no_service_takes_is_refused;
    conditions:
        a_commit_may_demand_that_there_is_no_blob,
        a_commit_may_demand_a_version,
        a_failed_condition_leaves_the_staged_blocks,
        of_two_commits_that_demand_absence_one_succeeds,
        every_commit_gives_a_new_entity_tag,
        a_read_of_another_version_fails,
        a_deletion_demands_a_version;
}
