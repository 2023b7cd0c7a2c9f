//! Natives for gzip.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::super::error::{Fail, fail};
use super::super::operate as op;
use super::super::value::Value;
use super::super::work;
use super::{Native, blob, options};

/// The most bytes that one call compresses, since that takes a second.
const MOST: usize = 64 << 20;
/// The work of compression and of decompression, in steps for each byte.
const HARD: usize = 8;

pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "gzip_compress" => compress,
        "gzip_decompress" => decompress,
        _ => return None,
    })
}

fn compress(args: &mut [Value]) -> Result<Value, Fail> {
    let bytes = match &args[0] {
        Value::Bytes(blob) => blob.bytes.as_slice(),
        Value::Str(text) => text.as_str().as_bytes(),
        other => return Err(super::wrong("a string or bytes", other)),
    };
    if bytes.len() > MOST {
        return Err(fail(
            "limit",
            "`gzip.compress` takes at most 64 MiB; parts one after the other are gzip too",
        ));
    }
    // Bytes that can't be compressed become a few longer.
    op::reserve_text(bytes.len() + bytes.len() / 1_000 + 64)?;
    work::done(bytes.len().saturating_mul(HARD));
    let broken = |_| fail("internal", "the bytes could not be compressed");
    let mut writer = GzEncoder::new(Vec::new(), Compression::default());
    writer.write_all(bytes).map_err(broken)?;
    Ok(Value::bytes(writer.finish().map_err(broken)?))
}

fn decompress(args: &mut [Value]) -> Result<Value, Fail> {
    let most = options::max_size(&args[1], "`gzip.decompress`")?;
    let bytes = &blob(&args[0])?.bytes;
    let mut reader = MultiGzDecoder::new(bytes.as_slice());
    let mut out = Vec::new();
    let mut growing = op::Growing::default();
    let mut piece = vec![0; 64 << 10];
    loop {
        let count = match reader.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                let reason = crate::os::reason(&error);
                return Err(fail("parse_error", format!("not gzip: {reason}")));
            }
        };
        work::done(count);
        if out.len() + count > most {
            let text = format!("more than {most} bytes when decompressed; option `max_size` allows more");
            return Err(fail("limit", text));
        }
        growing.text(count)?;
        out.extend_from_slice(&piece[..count]);
    }
    Ok(Value::bytes(out))
}
