//! What a `Spawn` is about: the program and the label, as bytes. An environment may be megabytes,
//! so that it may take several datagrams.

use std::{
    ffi::{CStr, CString},
    io,
    sync::Arc,
};

use prost::Message;

use crate::supervisor::{ExecSpec, OutputFiles};

/// The longest payload, in bytes: the kernel takes no more than 6 MiB of arguments.
pub const MAX_PAYLOAD: usize = 8 * 1024 * 1024;

/// The longest part of one that travels in one datagram, in bytes.
pub(super) const MAX_PART: usize = 64 * 1024;

/// The longest label, in bytes: it must fit a datagram of the list.
const MAX_LABEL: usize = 64 * 1024;

/// Each list of strings is one field, each string ended by a zero byte: as C strings cannot hold
/// one, and so that reading allocates no more than there is to read.
#[derive(Clone, PartialEq, Message)]
struct Encoded {
    #[prost(bytes = "vec", tag = "1")]
    label: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    candidates: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    argv: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    envp: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "5")]
    cwd: Option<Vec<u8>>,
    #[prost(bytes = "vec", tag = "6")]
    output: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "7")]
    group: Option<Vec<u8>>,
}

/// The bytes of a payload, if a shim would take them.
///
/// # Errors
/// The label or the whole is too long: which, and how long it is.
pub(super) fn encode(spec: &ExecSpec, label: Vec<u8>) -> Result<Vec<u8>, String> {
    if label.len() > MAX_LABEL {
        let length = label.len();
        return Err(format!(
            "its name, job and pipeline take {length} bytes; at most {MAX_LABEL} can be kept"
        ));
    }
    let bytes = write(spec, label);
    if bytes.len() > MAX_PAYLOAD {
        let length = bytes.len();
        return Err(format!(
            "arguments and environment take {length} bytes; at most {MAX_PAYLOAD} can be sent"
        ));
    }
    Ok(bytes)
}

/// The bytes of a payload.
pub fn write(spec: &ExecSpec, label: Vec<u8>) -> Vec<u8> {
    let bytes = |string: &Arc<CStr>| string.to_bytes().to_vec();
    let output = spec.output.iter().flat_map(|files| [&files.dir, &files.stdout, &files.stderr]);
    let encoded = Encoded {
        label,
        candidates: join(&spec.candidates),
        argv: join(&spec.argv),
        envp: join(&spec.envp),
        cwd: spec.cwd.as_ref().map(bytes),
        output: join(output),
        group: spec.group.as_ref().map(bytes),
    };
    encoded.encode_to_vec()
}

/// The program and the label of a payload's bytes. Allocates in proportion to their size.
///
/// # Errors
/// They are not what [`write()`] makes.
pub fn read(bytes: &[u8]) -> io::Result<(ExecSpec, Vec<u8>)> {
    let encoded = Encoded::decode(bytes).map_err(io::Error::other)?;
    let string = |bytes: Vec<u8>| CString::new(bytes).map(Arc::<CStr>::from);
    let output = match split(&encoded.output).as_slice() {
        [] => None,
        [dir, stdout, stderr] => {
            Some(OutputFiles { dir: dir.clone(), stdout: stdout.clone(), stderr: stderr.clone() })
        }
        other => {
            let number = other.len();
            return Err(io::Error::other(format!("{number} paths for output instead of three")));
        }
    };
    let spec = ExecSpec {
        candidates: split(&encoded.candidates),
        argv: split(&encoded.argv),
        envp: split(&encoded.envp),
        cwd: encoded.cwd.map(string).transpose()?,
        output,
        group: encoded.group.map(string).transpose()?,
    };
    Ok((spec, encoded.label))
}

fn join<'a>(strings: impl IntoIterator<Item = &'a Arc<CStr>>) -> Vec<u8> {
    let mut joined = Vec::new();
    strings.into_iter().for_each(|string| joined.extend(string.to_bytes_with_nul()));
    joined
}

/// What follows the last zero byte is no string, and is left out.
fn split(joined: &[u8]) -> Vec<Arc<CStr>> {
    let strings = joined.split_inclusive(|&byte| byte == 0);
    strings.filter_map(|string| CStr::from_bytes_with_nul(string).ok().map(Arc::from)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(length: usize) -> ExecSpec {
        let big = CString::new(vec![b'x'; length]).unwrap();
        ExecSpec {
            candidates: vec![c"/bin/one".into(), c"/bin/two".into()],
            argv: vec![c"one".into(), c"".into(), c"two words".into()],
            envp: vec![c"A=1".into(), big.into()],
            ..ExecSpec::default()
        }
    }

    #[test]
    fn a_payload_arrives_as_it_was_sent() {
        let output = OutputFiles {
            dir: c"/state/output".into(),
            stdout: c"/state/output/1.out".into(),
            stderr: c"/state/output/1.err".into(),
        };
        let full = ExecSpec {
            cwd: Some(c"/".into()),
            output: Some(output),
            group: Some(c"/sys/fs/cgroup/w".into()),
            ..spec(1_000_000)
        };
        for spec in [spec(1_000), full] {
            let bytes = encode(&spec, b"label".to_vec()).unwrap();
            assert_eq!(read(&bytes).unwrap(), (spec, b"label".to_vec()));
        }
    }

    #[test]
    fn what_a_shim_would_not_take_is_refused() {
        let error = encode(&spec(1), vec![0; MAX_LABEL + 1]).unwrap_err();
        assert!(error.contains("65537"), "{error}");
        let error = encode(&spec(MAX_PAYLOAD), Vec::new()).unwrap_err();
        assert!(error.contains("8388608"), "{error}");
    }

    #[test]
    fn output_is_three_paths_or_none() {
        let two = Encoded { output: b"/a\0/b\0".to_vec(), ..Encoded::default() };
        assert!(read(&two.encode_to_vec()).unwrap_err().to_string().contains("2 paths"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
