mod chance;

use std::time::Duration;

use self::chance::Chance;
use super::*;
use crate::model::{EntryId, Hold, Life, NodeName};

#[test]
fn what_is_said_is_understood() {
    let keys = Keys::new(&[7; 32], None).unwrap();
    for seed in 0..2000 {
        let it = Chance(seed).envelope();
        let bytes = seal(&keys, &it);
        assert_eq!(open(&keys, &bytes).as_ref(), Ok(&it), "seed {seed}");
        let body = &bytes[..bytes.len() - TAG];
        assert_eq!(decode(body), Ok((it, true)), "seed {seed}");
    }
}

#[test]
fn nothing_cut_short_is_believed() {
    let keys = Keys::insecure();
    for seed in 0..60 {
        let it = Chance(seed).envelope();
        let bytes = seal(&keys, &it);
        for length in 0..bytes.len() {
            let short = &bytes[..length];
            let why = if length < TAG + 3 { BadDatagram::Short } else { BadDatagram::Key };
            assert_eq!(open(&keys, short), Err(why), "seed {seed}, {length} bytes");
            // Between two sections a body does look whole: only the tag tells.
            if let Ok((other, true)) = decode(short) {
                assert_eq!(encode(&other), short, "seed {seed}, {length} bytes");
            }
        }
    }
}

#[test]
fn no_bit_may_turn() {
    let keys = Keys::new(&[7; 16], Some(&[8; 16])).unwrap();
    for seed in 0..20 {
        let good = seal(&keys, &Chance(seed).envelope());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let why = match bit / 8 {
                0 | 1 => BadDatagram::Malformed("magic"),
                2 => BadDatagram::Version,
                _ => BadDatagram::Key,
            };
            assert_eq!(open(&keys, &bad), Err(why), "seed {seed}, bit {bit}");
        }
    }
}

#[test]
fn what_decodes_is_written_no_other_way() {
    let mut understood = 0;
    for seed in 0..200 {
        let chance = &mut Chance(seed);
        let good = encode(&chance.envelope());
        for _ in 0..2000 {
            let mut bad = good.clone();
            let at = chance.below(bad.len() as u64) as usize;
            bad[at] = chance.next() as u8;
            match decode(&bad) {
                Ok((it, true)) => assert_eq!(encode(&it), bad, "seed {seed}, byte {at}"),
                Ok((it, false)) => assert_eq!(decode(&encode(&it)), Ok((it, true))),
                Err(_) => continue,
            }
            understood += 1;
        }
    }
    assert!(understood > 10_000, "{understood}");
}

#[test]
fn keys_change_one_member_at_a_time() {
    let (old, new) = ([1; 16], [2; 40]);
    let it = Chance(3).envelope();
    let before = Keys::new(&old, None).unwrap();
    let between = Keys::new(&new, Some(&old)).unwrap();
    let after = Keys::new(&new, None).unwrap();
    assert_eq!(open(&between, &seal(&before, &it)), Ok(it.clone()));
    assert_eq!(open(&between, &seal(&between, &it)), Ok(it.clone()));
    assert_eq!(open(&after, &seal(&between, &it)), Ok(it.clone()));
    assert_eq!(open(&before, &seal(&between, &it)), Err(BadDatagram::Key));
    assert_eq!(open(&after, &seal(&before, &it)), Err(BadDatagram::Key));
    assert_eq!(open(&Keys::insecure(), &seal(&after, &it)), Err(BadDatagram::Key));
}

#[test]
fn a_key_is_long_enough_and_never_shown() {
    let why = Keys::new(b"hunter2", None).unwrap_err();
    assert_eq!(why, "a key of 7 bytes is too short: 16 or more are needed");
    assert!(Keys::new(&[b'k'; 16], Some(b"")).is_err());
    let keys = Keys::new(b"correct horse battery", Some(b"staple staple staple")).unwrap();
    assert_eq!(format!("{keys:?}"), "Keys { .. }");
}

#[test]
fn a_section_of_a_later_version_is_skipped() {
    for seed in 0..100 {
        let it = Chance(seed).envelope();
        let mut body = encode(&it);
        body.extend([10, 3, 1, 2, 3, 200, 0]);
        assert_eq!(decode(&body), Ok((it, false)), "seed {seed}");
        body.push(10);
        assert_eq!(decode(&body), Err(BadDatagram::Malformed("section")));
    }
}

#[test]
fn what_is_not_in_its_one_form_is_refused() {
    let hello = Envelope {
        from: NodeName("a".into()),
        life: Life(1),
        echo: None,
        count: 0,
        message: None,
        hello: None,
    };
    let header = encode(&hello);
    let short = header.split_last().unwrap().1;
    let state: &[u8] = &[2, 10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(matches!(decode(&[&header, state].concat()), Ok((_, true))));
    let table: &[(&str, &[&[u8]])] = &[
        // A count in two bytes that needs one, in more than ten, beyond 64 bits.
        ("count", &[short, &[0x80, 0]]),
        ("count", &[short, &[0x80; 10], &[1]]),
        ("count", &[short, &[0xff; 9], &[2]]),
        // A name that nobody uses, twice the same, the sender's; none.
        ("names", &[&header, &[1, 2, 1, b'b'], state]),
        ("names", &[&header, &[1, 4, 1, b'b', 1, b'b'], state]),
        ("names", &[&header, &[1, 2, 1, b'a'], state]),
        ("names", &[&header, &[1, 0], state]),
        // No state, the same section again, backwards, number zero, cut short.
        ("state", &[&header, &[4, 1, 0]]),
        ("section", &[&header, state, state]),
        ("section", &[&header, &[4, 1, 0], state]),
        ("section", &[&header, &[0, 0]]),
        ("section", &[&header, &state[..9]]),
        // A byte behind, a leader nobody has named, neither yes nor no.
        ("message echo", &[&header, &[2, 11, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]),
        ("leader", &[&header, &[2, 11, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]]),
        ("leader", &[&header, &[2, 10, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0]]),
        // What is empty is left out, and so is a report of good health.
        ("raft", &[&header, state, &[3, 1, 0]]),
        ("answers", &[&header, state, &[6, 1, 0]]),
        ("released", &[&header, state, &[7, 1, 0]]),
        ("report", &[&header, state, &[8, 5, 0, 0, 0, 0, 0]]),
        // More than there can be; no such call, family, ailment.
        ("assignment", &[&header, state, &[4, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]]),
        ("raft", &[&header, state, &[3, 2, 1, 9]]),
        ("assigned VIP", &[&header, state, &[4, 6, 1, 5, 0, 0, 0, 0]]),
        ("ailments", &[&header, state, &[8, 6, 1, 9, 0, 0, 0, 0]]),
        // A hello of two families, of no address, whose list is longer than it.
        ("hello address", &[&header, &[9, 3, 5, 0, 0]]),
        ("hello witness", &[&header, &[9, 8, 4, 1, 2, 3, 4, 0, 1, 2]]),
        ("heard", &[&header, &[9, 12, 4, 1, 2, 3, 4, 0, 1, 0, 3, 0, 9, 0]]),
        ("hello", &[&header, &[9, 14, 4, 1, 2, 3, 4, 0, 1, 0, 3, 0, 0, 0, 0, 0]]),
        // Two are drained, and are the same one.
        ("drained", &[&header, state, &[3, 12, 1, 1, 1, 1, 1, 0, 0, 0, 2, 0, 0, 0]]),
    ];
    for (number, (field, parts)) in table.iter().enumerate() {
        let bad = decode(&parts.concat());
        assert_eq!(bad, Err(BadDatagram::Malformed(field)), "line {number}");
    }
}

#[test]
fn names_are_names() {
    let with = |name: &str| {
        let from = NodeName(name.into());
        decode(&encode(&Envelope {
            from,
            life: Life(1),
            echo: None,
            count: 1,
            message: None,
            hello: None,
        }))
    };
    let longest = "n".repeat(253);
    assert!(with(&longest).is_ok() && with("a.b-c").is_ok());
    for bad in ["", "a\nb", "\u{7f}", &format!("{longest}n")] {
        assert_eq!(with(bad), Err(BadDatagram::Malformed("from")), "{bad:?}");
    }
}

#[test]
fn a_promise_is_not_made_shorter_by_being_asked_for() {
    let Envelope { message: Some(mut message), from, life, echo, count, hello } =
        Chance(1).heartbeat()
    else {
        panic!("a heartbeat says something");
    };
    for (said, heard) in [
        (Duration::from_nanos(120_000_001), Duration::from_micros(120_001)),
        (Duration::from_millis(120), Duration::from_millis(120)),
        (Duration::MAX, Duration::from_micros(u64::MAX)),
    ] {
        let (id, config) = (1, EntryId::default());
        message.hold = Some(Hold { id, config, length: said, vips: vec![], urgent: false });
        let message = Some(message.clone());
        let hello = hello.clone();
        let it = Envelope { from: from.clone(), life, echo, count, message, hello };
        let (it, _) = decode(&encode(&it)).unwrap();
        assert_eq!(it.message.unwrap().hold.unwrap().length, heard);
    }
}

#[test]
fn too_long_is_too_long() {
    let keys = Keys::insecure();
    assert_eq!(open(&keys, &vec![0; LONGEST + 1]), Err(BadDatagram::TooLong));
    assert_eq!(open(&keys, &vec![0; LONGEST]), Err(BadDatagram::Malformed("magic")));
    assert_eq!(open(&keys, &[]), Err(BadDatagram::Short));
}
