// SPDX-License-Identifier: MIT OR Apache-2.0

//! A buffer takes a text whole, up to its last byte, or not at all.

use loggerfs_log::line::{
    decode_decimal, decode_hex, decode_hex32, decode_padded_decimal, FixedBuffer,
};
use loggerfs_log::types::ObjectId;
use proptest::prelude::*;

/// One of the values of a line, and its text as the standard library formats it.
fn value() -> impl Strategy<Value = (Item, String)> {
    let number = (any::<u64>(), 0..64_u32).prop_map(|(number, bits)| number >> bits);
    let digits = |bytes: &[u8]| {
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<Vec<_>>().concat()
    };
    prop_oneof![
        number.prop_map(|number| (Item::Decimal(number), number.to_string())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(move |bytes| {
            let text = digits(&bytes);
            (Item::Hex(bytes), text)
        }),
        "[a-z]{0,20}".prop_map(|text| (Item::Text(text.clone()), text)),
        (0..3_u64, any::<u64>(), any::<u32>()).prop_map(|(volume, inode, generation)| {
            let volume_text = match volume {
                0 => String::new(),
                _ => format!("{volume}."),
            };
            let object = ObjectId {
                volume,
                inode,
                generation,
            };
            let text = format!("{volume_text}{inode}.{generation}");
            (Item::Object(object), text)
        }),
    ]
}

#[derive(Clone, Debug)]
enum Item {
    Decimal(u64),
    Hex(Vec<u8>),
    Text(String),
    Object(ObjectId),
}

fn put<const N: usize>(item: &Item, text: &mut FixedBuffer<'_, N>) {
    match item {
        Item::Decimal(number) => text.dec(*number),
        Item::Hex(bytes) => text.hex(bytes),
        Item::Text(word) => text.put(word.as_bytes()),
        Item::Object(object) => text.object(*object),
    }
}

/// Writes the items to a buffer of `N` bytes.
fn check<const N: usize>(items: &[(Item, String)]) {
    let mut bytes = [0; N];
    let mut text = FixedBuffer::new(&mut bytes);
    let mut expected = String::new();
    for (item, word) in items {
        put(item, &mut text);
        expected += word;
        if expected.len() > N {
            assert!(text.is_short() && text.whole().is_none() && text.written().is_empty());
        } else {
            assert_eq!(text.written(), expected.as_bytes());
            assert_eq!(text.whole(), Some(expected.len()));
        }
    }
}

proptest! {
    #[test]
    fn a_text_is_written_whole_or_not_at_all(items in prop::collection::vec(value(), 0..12)) {
        check::<0>(&items);
        check::<1>(&items);
        check::<7>(&items);
        check::<8>(&items);
        check::<9>(&items);
        check::<23>(&items);
        check::<64>(&items);
        check::<255>(&items);
    }

    #[test]
    fn numbers_are_read_as_the_standard_library_reads_them(word in "[0-9]{0,22}") {
        let parsed = word.parse::<u64>().ok();
        prop_assert_eq!(decode_padded_decimal(word.as_bytes()), parsed);
        let is_canonical = parsed.is_some_and(|number| number.to_string() == word);
        prop_assert_eq!(decode_decimal(word.as_bytes()), parsed.filter(|_| is_canonical));
    }

    #[test]
    fn hexadecimal_digits_are_read_as_they_were_written(number in any::<u32>()) {
        let text = format!("{number:08x}");
        prop_assert_eq!(decode_hex32(text.as_bytes()), Some(number));
        let mut bytes = [0; 4];
        prop_assert_eq!(decode_hex(text.as_bytes(), &mut bytes), Some(4));
        prop_assert_eq!(u32::from_be_bytes(bytes), number);
        prop_assert_eq!(decode_hex32(&text.as_bytes()[1..]), None);
        prop_assert_eq!(decode_hex32(format!("{text}0").as_bytes()), None);
    }
}
