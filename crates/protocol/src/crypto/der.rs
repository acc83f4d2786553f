//! Reads the integers of an RSA private key from PKCS#8.
//!
//! aws-lc-rs takes the components of a key but gives only DER back, and .NET's key files want the components.

use super::SecretBytes;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// Splits the first element off: its content, if it has that tag, and what follows it. Lengths of up to four
/// bytes.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let size = usize::from(first & 0x7f);
        if size == 0 || size > 4 || rest.len() < size {
            return None;
        }
        let (digits, rest) = rest.split_at(size);
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    (found == tag && length <= rest.len()).then(|| rest.split_at(length))
}

/// The numbers of PKCS#1 in their order: modulus, public exponent, private exponent, p, q, dp, dq, the
/// inverse of q. Without leading zeros.
pub(super) fn rsa_integers(pkcs8: &[u8]) -> Option<[SecretBytes; 8]> {
    let (info, _) = element(SEQUENCE, pkcs8)?;
    let (_version, info) = element(INTEGER, info)?;
    let (_algorithm, info) = element(SEQUENCE, info)?;
    let (key, _) = element(OCTET_STRING, info)?;
    let (numbers, _) = element(SEQUENCE, key)?;
    let (_version, mut numbers) = element(INTEGER, numbers)?;
    let mut integers: [SecretBytes; 8] = Default::default();
    for integer in &mut integers {
        let (number, rest) = element(INTEGER, numbers)?;
        *integer = SecretBytes::new(without_leading_zeros(number).to_vec());
        numbers = rest;
    }
    Some(integers)
}

/// The number without zeros in front.
pub(super) fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_are_bounded_by_their_input() {
        assert_eq!(element(INTEGER, &[2, 1, 5, 9]), Some((&[5][..], &[9][..])));
        assert_eq!(element(INTEGER, &[2, 0x82, 0, 1, 5]), Some((&[5][..], &[][..])));
        for bad in
            [&[][..], &[2], &[2, 2, 5], &[3, 1, 5], &[2, 0x80, 5], &[2, 0x85, 0, 0, 0, 0, 1, 5], &[2, 0x81]]
        {
            assert_eq!(element(INTEGER, bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(rsa_integers(&bytes).is_none());
        }
    }
}
