/// The body of message `number` of a `send size:SIZE:SEED` command, as both implementations make it.
///
/// Bytes are the top ones of xorshift64, whose state starts at `(seed + number) * 0x9E3779B97F4A7C15 + 1`. When the command sends
/// several messages (`numbered`) and there is room, the first eight bytes are the number, big-endian.
pub fn pattern(size: usize, seed: u64, number: u64, numbered: bool) -> Vec<u8> {
    let mut x = seed.wrapping_add(number).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut body: Vec<u8> = (0..size)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let [top, ..] = x.to_be_bytes();
            top
        })
        .collect();
    if numbered && let Some(front) = body.first_chunk_mut() {
        *front = number.to_be_bytes();
    }
    body
}

/// Lower-case hex digits, two for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_the_agreed_ones() {
        assert_eq!(hex(&pattern(16, 1, 0, false)), "dc54d6bf052e91a78e285630208de8d3");
    }

    #[test]
    fn the_number_stands_in_front_only_where_it_fits_and_is_asked_for() {
        let plain = hex(&pattern(12, 1, 3, false));
        let numbered = hex(&pattern(12, 1, 3, true));
        assert_eq!(plain.len(), 24);
        assert_eq!((numbered.get(..16), numbered.get(16..)), (Some("0000000000000003"), plain.get(16..)));
        assert_eq!(pattern(7, 1, 3, true), pattern(7, 1, 3, false));
    }

    #[test]
    fn seed_and_number_add_up() {
        assert_eq!(pattern(32, 5, 2, false), pattern(32, 7, 0, false));
        assert_ne!(pattern(32, 5, 2, false), pattern(32, 5, 3, false));
        assert!(pattern(0, 1, 0, true).is_empty());
    }
}
