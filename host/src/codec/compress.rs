//! LZ4 blocks behind their size, which is looked at before anything is allocated.

use super::CodecError;

const SIZE_BYTES: usize = 4;

/// No LZ4 block grows by more: each byte of a length says 255 at most.
const RATIO_MAX: usize = 255;

/// Puts what is behind `from` into a block, if that is smaller.
pub(super) fn compress(bytes: &mut Vec<u8>, from: usize) -> bool {
    let Some(body) = bytes.get(from..) else { return false };
    let Ok(size) = u32::try_from(body.len()) else { return false };
    let block = lz4_flex::block::compress(body);
    if SIZE_BYTES + block.len() >= body.len() {
        return false;
    }
    bytes.truncate(from);
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&block);
    bytes.shrink_to_fit();
    true
}

/// What is in a block.
///
/// # Errors
///
/// [`CodecError::TooLarge`] if it says that it is larger than `max`, [`CodecError::Decompression`] if it is broken.
pub(super) fn decompress(bytes: &[u8], max: usize) -> Result<Vec<u8>, CodecError> {
    let (size, block) = bytes.split_first_chunk::<SIZE_BYTES>().ok_or(CodecError::Truncated)?;
    let size = u32::from_le_bytes(*size) as usize;
    if size > max {
        return Err(CodecError::TooLarge { bytes: size, max });
    }
    if size / RATIO_MAX > block.len() {
        return Err(CodecError::Decompression);
    }
    let mut body = vec![0; size];
    match lz4_flex::block::decompress_into(block, &mut body) {
        Ok(written) if written == size => Ok(body),
        _ => Err(CodecError::Decompression),
    }
}
