//! What is still to be done.

use anyhow::Result;
use transship_control_plane::state::OutboxItem;

use crate::scene::{Scene, export, export_work, part_states};

pub(crate) async fn what_is_to_be_done_is_due_in_its_order_until_it_is_done(scene: &Scene) -> Result<()> {
    let store = &scene.store;
    let first = scene.start(export("first", 1_000)).await?;
    let publish = vec![export_work(&first.execution, 1), export_work(&first.execution, 2)];
    store.begin_run(&first.execution, part_states(2)?, publish.clone(), 1_000).await?;
    scene.start(export("second", 2_000)).await?;

    assert_eq!(store.outbox_due(999, 10).await?, vec![]);
    let two = store.outbox_due(1_500, 10).await?;
    assert_eq!(two.iter().map(|row| row.item.clone()).collect::<Vec<_>>(), publish);
    store.outbox_done(&[two[0].id]).await?;
    store.outbox_retry(two[1].id, 3_000).await?;
    let start = store.outbox_due(2_999, 10).await?;
    assert_eq!(start.iter().map(|row| &row.item).collect::<Vec<_>>(), [&OutboxItem::Start]);
    store.outbox_retry(start[0].id, 4_000).await?;
    let later = store.outbox_due(9_000, 1).await?;
    assert_eq!((later.len(), later[0].id, later[0].attempts), (1, two[1].id, 1));
    store.outbox_done(&[two[1].id, start[0].id]).await?;
    store.outbox_done(&[two[1].id]).await?;
    assert_eq!(store.outbox_due(1_000_000, 10).await?, vec![]);
    Ok(())
}
