//! What a `Spawn` is about: the program's image, which may be megabytes, and the label. If it is
//! short it travels in the message; if not, as a sealed memfd, which cannot change meanwhile.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    sync::Arc,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use prost::Message;

use super::super::command::Image;

/// The longest payload, in bytes: the kernel takes no more than 6 MiB of arguments.
const LONGEST: u64 = 8 * 1024 * 1024;

/// The longest payload that travels in its message, in bytes: with as many under way as may be, the
/// socket still has room.
const LONGEST_INLINE: usize = 16 * 1024;

/// The version from which on it may.
const INLINE_SINCE: u32 = 2;

/// The longest label, in bytes: it must fit a datagram of the list.
pub(super) const LONGEST_LABEL: usize = 64 * 1024;

/// Each list of strings is one field, each string ended by a zero byte: as C strings cannot hold
/// one, and so that reading allocates no more than there is to read.
#[derive(Clone, PartialEq, Message)]
struct Form {
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
}

/// A payload as it travels.
#[derive(Debug)]
pub(super) struct Packed {
    /// For the message; empty if there is a descriptor.
    pub(super) inline: Vec<u8>,
    pub(super) descriptor: Option<OwnedFd>,
}

/// Packs it for a shim that speaks this version.
pub(super) fn pack(image: &Image, label: Vec<u8>, version: u32) -> io::Result<Packed> {
    if label.len() > LONGEST_LABEL {
        return Err(io::Error::other(format!(
            "its name, job and pipeline take {} bytes; at most {LONGEST_LABEL} can be kept",
            label.len()
        )));
    }
    let bytes = write(image, label);
    if version >= INLINE_SINCE && bytes.len() <= LONGEST_INLINE {
        return Ok(Packed { inline: bytes, descriptor: None });
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(c"arroyo-node-spawn", flags)?);
    file.write_all(&bytes)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(Packed { inline: Vec::new(), descriptor: Some(file.into()) })
}

const SEALS: SealFlag =
    SealFlag::F_SEAL_WRITE.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SHRINK);

/// What was packed: the image and the label.
pub(super) fn unpack(packed: Packed) -> io::Result<(Image, Vec<u8>)> {
    match packed.descriptor {
        Some(descriptor) => read(&contents(descriptor)?),
        None => read(&packed.inline),
    }
}

fn contents(payload: OwnedFd) -> io::Result<Vec<u8>> {
    let seals = fcntl(&payload, FcntlArg::F_GET_SEALS)?;
    if !SealFlag::from_bits_retain(seals).contains(SEALS) {
        return Err(io::Error::other("the payload of a spawn is not sealed"));
    }
    let file = File::from(payload);
    let length = file.metadata()?.len();
    if length > LONGEST {
        return Err(io::Error::other(format!(
            "arguments and environment take {length} bytes; at most {LONGEST} can be sent"
        )));
    }
    let mut bytes = vec![0; length.try_into().unwrap_or(0)];
    // Its position is shared with the sender's, and so at the end.
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The bytes of a payload.
pub fn write(image: &Image, label: Vec<u8>) -> Vec<u8> {
    let form = Form {
        label,
        candidates: join(&image.candidates),
        argv: join(&image.argv),
        envp: join(&image.envp),
        cwd: image.cwd.as_ref().map(|cwd| cwd.to_bytes().to_vec()),
    };
    form.encode_to_vec()
}

/// The image and the label of a payload's bytes. Allocates in proportion to their size.
///
/// # Errors
/// They are not what [`write()`] makes.
pub fn read(bytes: &[u8]) -> io::Result<(Image, Vec<u8>)> {
    let form = Form::decode(bytes).map_err(io::Error::other)?;
    let image = Image {
        candidates: split(&form.candidates),
        argv: split(&form.argv),
        envp: split(&form.envp),
        cwd: form.cwd.map(CString::new).transpose()?.map(Arc::from),
    };
    Ok((image, form.label))
}

fn join(strings: &[Arc<CStr>]) -> Vec<u8> {
    let length = strings.iter().map(|string| string.count_bytes() + 1).sum();
    let mut joined = Vec::with_capacity(length);
    strings.iter().for_each(|string| joined.extend(string.to_bytes_with_nul()));
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

    fn image(cwd: Option<&CStr>, length: usize) -> Image {
        let big = CString::new(vec![b'x'; length]).unwrap();
        Image {
            candidates: vec![c"/bin/one".into(), c"/bin/two".into()],
            argv: vec![c"one".into(), c"".into(), c"two words".into()],
            envp: vec![c"A=1".into(), big.into()],
            cwd: cwd.map(Arc::from),
        }
    }

    #[test]
    fn a_payload_arrives_as_it_was_sent() {
        for cwd in [None, Some(c"/")] {
            for (length, version, in_message) in
                [(1_000, 2, true), (1_000, 1, false), (1_000_000, 2, false)]
            {
                let image = image(cwd, length);
                let packed = pack(&image, b"label".to_vec(), version).unwrap();
                assert_eq!(packed.descriptor.is_none(), in_message);
                assert_eq!(packed.inline.is_empty(), !in_message);
                assert_eq!(unpack(packed).unwrap(), (image, b"label".to_vec()));
            }
        }
    }

    #[test]
    fn what_could_change_while_it_is_read_is_refused() {
        let file = memfd_create(c"test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING);
        let packed = Packed { inline: Vec::new(), descriptor: Some(file.unwrap()) };
        assert!(unpack(packed).unwrap_err().to_string().contains("sealed"));
    }

    #[test]
    fn a_label_that_no_list_could_hold_is_refused() {
        let error = pack(&image(None, 1), vec![0; LONGEST_LABEL + 1], 2).unwrap_err();
        assert!(error.to_string().contains("65537"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
