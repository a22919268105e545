//! WorkerFinished in the dialects of Arroyo 0.15 and 0.16: whatever it holds, it is read as what it
//! was written as, and a stock peer of that dialect reads the same.

mod stock;

use arroyo_node::rpc::wire::{FinishedWorker, WorkerContext, WorkerFinishedReq, WorkerInfo};
use proptest::prelude::*;
use prost::Message;

/// Mostly the values at the edges: zero is not written at all.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>()]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), ".{0,12}"]
}

prop_compose! {
    fn info()(
        worker_id in number(), job_id in text(), run_id in number(), machine_id in text(),
    ) -> WorkerInfo {
        WorkerInfo { worker_id, job_id, run_id, machine_id }
    }
}

prop_compose! {
    fn context()(
        machine_id in text(), worker_id in number(), job_id in text(), generation in number(),
        pipeline_id in text(),
    ) -> WorkerContext {
        WorkerContext { machine_id, worker_id, job_id, generation, pipeline_id }
    }
}

prop_compose! {
    fn finished()(
        worker in prop::option::of(prop_oneof![
            info().prop_map(FinishedWorker::Info),
            context().prop_map(FinishedWorker::Context),
        ]),
        time in number(),
        slots in number(),
    ) -> WorkerFinishedReq {
        WorkerFinishedReq { worker, time, slots }
    }
}

/// The same, but an identity that says nothing is none.
fn without_empty_identity(finished: &WorkerFinishedReq) -> WorkerFinishedReq {
    let says_nothing = match &finished.worker {
        None => true,
        Some(FinishedWorker::Info(info)) => *info == WorkerInfo::default(),
        Some(FinishedWorker::Context(context)) => *context == WorkerContext::default(),
    };
    WorkerFinishedReq {
        worker: finished.worker.clone().filter(|_| !says_nothing),
        ..finished.clone()
    }
}

/// Fields that neither version has, in every wire type.
fn unknown_fields() -> impl Strategy<Value = Vec<u8>> {
    let field = (6_u32..200, 0..4, any::<u64>()).prop_map(|(tag, kind, value)| {
        let key = |wire_type: u32| u64::from(tag << 3 | wire_type);
        let mut bytes = Vec::new();
        let varint = |value, bytes: &mut Vec<u8>| prost::encoding::encode_varint(value, bytes);
        match kind {
            0 => {
                varint(key(0), &mut bytes);
                varint(value, &mut bytes);
            }
            1 => {
                varint(key(1), &mut bytes);
                bytes.extend(value.to_le_bytes());
            }
            2 => {
                varint(key(2), &mut bytes);
                varint(8, &mut bytes);
                bytes.extend(value.to_le_bytes());
            }
            _ => {
                varint(key(5), &mut bytes);
                bytes.extend(&value.to_le_bytes()[..4]);
            }
        }
        bytes
    });
    prop::collection::vec(field, 0..4).prop_map(|fields| fields.concat())
}

/// Field 1 with these bytes in it.
fn identity(bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![0x0a];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

proptest! {
    #[test]
    fn reads_what_it_wrote(finished in finished()) {
        let bytes = finished.encode_to_vec();
        prop_assert_eq!(bytes.len(), finished.encoded_len());
        let read = WorkerFinishedReq::decode(&*bytes)?;
        prop_assert_eq!(read, without_empty_identity(&finished));
    }

    #[test]
    fn stock_0_15_reads_what_is_written_for_it(info in info(), slots in number()) {
        let worker = Some(FinishedWorker::Info(info.clone()));
        let bytes = WorkerFinishedReq { worker, time: 0, slots }.encode_to_vec();
        let WorkerInfo { worker_id, job_id, run_id, machine_id } = info;
        let worker_info = Some(stock::v0_15::WorkerInfo { worker_id, job_id, run_id, machine_id });
        let expected = stock::v0_15::WorkerFinishedReq { worker_info, slots };
        prop_assert_eq!(stock::v0_15::WorkerFinishedReq::decode(&*bytes)?, expected);
    }

    #[test]
    fn stock_0_16_reads_what_is_written_for_it(
        context in context(), time in number(), slots in number(),
    ) {
        let worker = Some(FinishedWorker::Context(context.clone()));
        let bytes = WorkerFinishedReq { worker, time, slots }.encode_to_vec();
        let WorkerContext { machine_id, worker_id, job_id, generation, pipeline_id } = context;
        let worker_context = Some(stock::v0_16::WorkerContext {
            machine_id, worker_id, job_id, generation, pipeline_id,
        });
        let expected = stock::v0_16::WorkerFinishedReq { worker_context, time, slots };
        prop_assert_eq!(stock::v0_16::WorkerFinishedReq::decode(&*bytes)?, expected);
    }

    /// Inside the identity and beside it.
    #[test]
    fn unknown_fields_change_nothing(
        finished in finished(), inner in unknown_fields(), outer in unknown_fields(),
    ) {
        let known = match &finished.worker {
            None => Vec::new(),
            Some(FinishedWorker::Info(info)) => info.encode_to_vec(),
            Some(FinishedWorker::Context(context)) => context.encode_to_vec(),
        };
        let rest = WorkerFinishedReq { worker: None, ..finished.clone() }.encode_to_vec();
        let bytes = [outer, identity(&[inner, known].concat()), rest].concat();
        let read = WorkerFinishedReq::decode(&*bytes)?;
        prop_assert_eq!(read, without_empty_identity(&finished));
    }

    /// Protocol Buffers: a message that is written in parts is the same as one written whole.
    #[test]
    fn an_identity_in_two_parts_is_merged(first in context(), second in context()) {
        let mut whole = first.clone();
        whole.merge(&*second.encode_to_vec())?;
        let parts = [identity(&first.encode_to_vec()), identity(&second.encode_to_vec())].concat();
        let expected = WorkerFinishedReq {
            worker: Some(FinishedWorker::Context(whole)),
            ..WorkerFinishedReq::default()
        };
        let read = WorkerFinishedReq::decode(&*parts)?;
        prop_assert_eq!(read, without_empty_identity(&expected));
    }

    /// The other dialect has other types under the same numbers: no stock peer reads both.
    #[test]
    fn two_dialects_in_one_message_are_refused(
        info in info(), mut context in context(), info_first: bool,
    ) {
        prop_assume!(info != WorkerInfo::default());
        context.worker_id = context.worker_id.max(1);
        let (info, context) = (identity(&info.encode_to_vec()), identity(&context.encode_to_vec()));
        let parts = if info_first { [info, context] } else { [context, info] }.concat();
        prop_assert!(WorkerFinishedReq::decode(&*parts).is_err());
    }
}

#[test]
fn an_identity_of_nothing_but_unknown_fields_names_nobody() {
    let bytes = identity(&[0x30, 0x07]);
    let read = WorkerFinishedReq::decode(&*bytes).expect("valid");
    assert_eq!(read, WorkerFinishedReq::default());
}

/// The second part takes back what the first one said.
#[test]
fn an_identity_that_is_taken_back_names_nobody() {
    let bytes = [identity(&[0x08, 0x07]), identity(&[0x08, 0x00])].concat();
    let read = WorkerFinishedReq::decode(&*bytes).expect("valid");
    assert_eq!(read, WorkerFinishedReq::default());
}

#[test]
fn the_pipeline_alone_tells_0_16() {
    let context = WorkerContext { pipeline_id: "pl".into(), ..WorkerContext::default() };
    let bytes = identity(&context.encode_to_vec());
    let read = WorkerFinishedReq::decode(&*bytes).expect("valid");
    assert_eq!(read.worker, Some(FinishedWorker::Context(context)));
}

#[test]
fn an_identity_of_neither_dialect_is_an_error() {
    // Worker id as in 0.15, generation as in 0.16.
    assert!(WorkerFinishedReq::decode(&*identity(&[0x08, 0x07, 0x20, 0x07])).is_err());
    // Cut short.
    assert!(WorkerFinishedReq::decode(&*identity(&[0x0a, 0x07, 0x41])).is_err());
}
