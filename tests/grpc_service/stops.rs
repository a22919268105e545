//! What a StopWorker is answered: with its status, or with the one error that a stock controller
//! takes for a stop that is done.

use arroyo_node::{
    ids::WorkerId,
    machine::{Ask, Exit, Reply, StopHow, StopStatus},
    rpc::{
        convert::StopReply,
        wire::{StopWorkerReq, StopWorkerStatus},
    },
};
use tonic::{Code, Status};

use crate::node::{Node, soon};

/// Each outcome with its status, and the text of the error that says that it is done.
const OUTCOMES: [(StopStatus, StopWorkerStatus, Option<&str>); 8] = [
    (ended(Exit::Code(0), true), StopWorkerStatus::Stopped, Some("worker 5 has ended: code 0")),
    (ended(Exit::Signal(9), true), StopWorkerStatus::Stopped, Some("worker 5 has ended: signal 9")),
    (ended(Exit::Unknown, true), StopWorkerStatus::Stopped, Some("worker 5 has ended: unknown")),
    (ended(Exit::Code(0), false), StopWorkerStatus::Stopped, None),
    (
        StopStatus::Stopped { exit: None, acknowledged: true },
        StopWorkerStatus::Stopped,
        Some("worker 5 never ran: its program could not be started"),
    ),
    (StopStatus::Stopping, StopWorkerStatus::Stopping, None),
    (StopStatus::Failed, StopWorkerStatus::StopFailed, None),
    (
        StopStatus::NotFound,
        StopWorkerStatus::NotFound,
        Some("worker 5 is not known here: it was never started, or ended long ago"),
    ),
];

const fn ended(exit: Exit, acknowledged: bool) -> StopStatus {
    StopStatus::Stopped { exit: Some(exit), acknowledged }
}

/// Sends a StopWorker; the machine makes this of it.
async fn stop(
    node: &mut Node,
    request: &StopWorkerReq,
    how: StopHow,
    outcome: StopStatus,
) -> Result<StopWorkerStatus, Status> {
    let mut client = node.client().await;
    let request = request.clone();
    let call = tokio::spawn(async move { client.stop_worker(request).await });
    let ask = node.answer(Reply::Stopped(outcome)).await;
    assert_eq!(ask, Ask::Stop { worker: WorkerId(5), how });
    let response = soon("the answer", call).await.expect("the call ran")?;
    Ok(response.into_inner().status())
}

/// Whether a stop that is done is answered by the error, in this setting, for such a request.
async fn done_is_an_error(setting: StopReply, request: StopWorkerReq, how: StopHow) -> bool {
    let request = StopWorkerReq { worker_id: 5, ..request };
    let mut node = Node::replying(setting).await;
    let mut errors = Vec::new();
    for (outcome, status, text) in OUTCOMES {
        match stop(&mut node, &request, how, outcome).await {
            Ok(told) => {
                assert_eq!(told, status, "{outcome:?}");
                errors.extend(text.map(|_| false));
            }
            Err(error) => {
                let text = text.unwrap_or_else(|| panic!("{outcome:?} is not done: {error:?}"));
                assert_eq!((error.code(), error.message()), (Code::NotFound, text));
                errors.push(true);
            }
        }
    }
    assert_eq!(errors.len(), 5);
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    errors[0]
}

#[tokio::test]
async fn only_a_forced_stop_of_stocks_that_is_done_is_answered_by_an_error() {
    use StopHow::{Ask, Force, Gentle};
    use StopReply::{Status, Stock};
    let table = [
        // setting, force, wants_status, finished; how it is done, whether done is an error
        (Stock, false, false, false, Gentle, false),
        (Stock, false, false, true, Ask, false),
        (Stock, false, true, false, Gentle, false),
        (Stock, false, true, true, Ask, false),
        (Stock, true, false, false, Force, true),
        (Stock, true, false, true, Ask, false),
        (Stock, true, true, false, Force, false),
        (Stock, true, true, true, Ask, false),
        (Status, false, false, false, Gentle, false),
        (Status, false, false, true, Ask, false),
        (Status, false, true, false, Gentle, false),
        (Status, false, true, true, Ask, false),
        (Status, true, false, false, Force, false),
        (Status, true, false, true, Ask, false),
        (Status, true, true, false, Force, false),
        (Status, true, true, true, Ask, false),
    ];
    for (setting, force, wants_status, finished, how, expected) in table {
        let request = StopWorkerReq { force, wants_status, finished, ..StopWorkerReq::default() };
        let found = done_is_an_error(setting, request.clone(), how).await;
        assert_eq!(found, expected, "{setting:?}: {request:?}");
    }
}

#[tokio::test]
async fn an_agent_answers_as_stock_needs_it_unless_it_is_told_otherwise() {
    let request = StopWorkerReq { force: true, ..StopWorkerReq::default() };
    assert!(done_is_an_error(StopReply::default(), request, StopHow::Force).await);
}
