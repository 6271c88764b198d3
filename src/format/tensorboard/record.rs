//! The frame around a record (TFRecord): its length, the length's checksum, the bytes, theirs.

use crc::{CRC_32_ISCSI, Crc, Table};

/// CRC-32C, by Castagnoli's polynomial.
const CRC_32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// A checksum as records hold it: rotated and moved by a constant, since checksums of data that holds
/// checksums are weak.
pub fn masked_crc(bytes: &[u8]) -> u32 {
    CRC_32C.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Appends a record of `bytes` to `out`.
pub fn frame(bytes: &[u8], out: &mut Vec<u8>) {
    let length = (bytes.len() as u64).to_le_bytes();
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(bytes);
    out.extend(masked_crc(bytes).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(CRC_32C.checksum(b"123456789"), 0xe306_9283);
        // RFC 3720, B.4: 32 bytes of zeros, and of ones.
        assert_eq!(CRC_32C.checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(CRC_32C.checksum(&[0xff; 32]), 0x62a8_ab43);
        // 0xe3069283 rotated right by 15 bits is 0x2507c60d.
        assert_eq!(masked_crc(b"123456789"), 0x2507_c60du32.wrapping_add(0xa282_ead8));
    }

    #[test]
    fn a_frame_is_length_checksum_bytes_checksum() {
        let mut out = Vec::new();
        frame(b"123456789", &mut out);
        assert_eq!(out.len(), 8 + 4 + 9 + 4);
        assert_eq!(out[..8], [9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out[8..12], masked_crc(&out[..8]).to_le_bytes());
        assert_eq!(&out[12..21], b"123456789");
        assert_eq!(out[21..], masked_crc(b"123456789").to_le_bytes());
    }
}
