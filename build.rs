//! Compiles `proto/` to Rust with protox, so that no `protoc` is needed, and keeps the
//! descriptors for the reflection service.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["arroyo_rpc.proto", "arroyo_node_v1.proto"], ["proto"])?;

    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(&descriptors, files.encode_to_vec())?;

    tonic_prost_build::configure()
        // One message, two dialects: written by hand in src/rpc/finished.rs.
        .extern_path(".arroyo_rpc.WorkerFinishedReq", "crate::rpc::finished::WorkerFinishedReq")
        // Ordered maps: a message is encoded the same way every time.
        .btree_map(".")
        .compile_fds(files)?;
    Ok(())
}
