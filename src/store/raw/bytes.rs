//! Numbers and byte strings as sled writes them.

/// Takes the next `count` bytes.
pub(super) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// Takes the next byte.
pub(super) fn byte(bytes: &mut &[u8]) -> Option<u8> {
    Some(take(bytes, 1)?[0])
}

/// Takes the next four bytes as a number.
pub(super) fn four(bytes: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?))
}

/// Takes the next eight bytes as a number.
pub(super) fn eight(bytes: &mut &[u8]) -> Option<i64> {
    Some(i64::from_le_bytes(take(bytes, 8)?.try_into().ok()?))
}

/// Takes the next number of variable length. A small number is one byte; otherwise the first byte
/// says how many bytes follow.
pub(super) fn number(bytes: &mut &[u8]) -> Option<u64> {
    let first = byte(bytes)?;
    Some(match first {
        0..=240 => u64::from(first),
        241..=248 => 240 + 256 * (u64::from(first) - 241) + u64::from(byte(bytes)?),
        249 => {
            let rest = take(bytes, 2)?;
            2288 + 256 * u64::from(rest[0]) + u64::from(rest[1])
        }
        _ => {
            let rest = take(bytes, usize::from(first) - 247)?;
            let mut whole = [0; 8];
            whole[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(whole)
        }
    })
}

/// Takes the next number as a count of things in memory.
pub(super) fn count(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(number(bytes)?).ok()
}

/// Takes the next byte string, which follows its length.
pub(super) fn string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = count(bytes)?;
    take(bytes, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length() {
        let cases: [(&[u8], u64); 6] = [
            (&[0], 0),
            (&[240], 240),
            (&[241, 0], 240),
            (&[248, 255], 2287),
            (&[249, 0, 0], 2288),
            (&[250, 0, 0, 1], 65536),
        ];
        for (bytes, wanted) in cases {
            let mut rest = bytes;
            assert_eq!((number(&mut rest), rest.len()), (Some(wanted), 0), "{bytes:?}");
        }
        assert_eq!(number(&mut &[255, 1, 2, 3, 4, 5, 6, 7, 8][..]), Some(0x0807_0605_0403_0201));
        for short in [&[][..], &[241], &[249, 1], &[255, 0]] {
            assert_eq!(number(&mut &short[..]), None, "{short:?}");
        }
        assert_eq!(string(&mut &[3, 1, 2][..]), None);
    }
}
