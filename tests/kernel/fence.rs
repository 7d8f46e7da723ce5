//! Silent and answering, as a client sees it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use edgevip::engine::FENCE_MARGIN;
use edgevip::io::clock;
use edgevip::io::fence::Fence;
use edgevip::io::kernel::{FromKernel, KernelOptions};
use edgevip::model::{Frame, KernelAnswer, KernelJob, Vip};

use crate::edge::*;
use crate::lab::*;
use crate::story;

const BOTH: [&str; 2] = ["10.0.0.42", "fd00::42"];

/// Added, and silent.
fn silent() -> Edge {
    let mut edge = Edge::start();
    edge.done([
        clean(&BOTH),
        silence(&BOTH, soon(63_000)),
        hold(BOTH[0], soon(60_000)),
        hold(BOTH[1], soon(60_000)),
    ]);
    edge
}

story!(both_fences_stand_here, |_| {
    let edge = Edge::start();
    assert_eq!((&edge.fences.v4, &edge.fences.v6), (&Ok(()), &Ok(())));
    assert_eq!(run("nft list ruleset"), "", "to try leaves nothing");
});

story!(what_has_ended_meanwhile_is_no_reason_to_wait, |_| {
    // The kernel refuses to remove what is not there, and waits for its readers meanwhile.
    let (fence, _) = Fence::open(None, true);
    let (mut fence, vips) = (fence.unwrap(), BOTH.map(|it| Vip(it.parse().unwrap())));
    for past_the_end in [0, 1, 40] {
        let until = soon(120);
        fence.answer(&vips, until).unwrap();
        let end = until - FENCE_MARGIN;
        while clock::now().saturating_since(end) == Duration::ZERO {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(past_the_end));
        fence.silence(&vips, soon(1_000)).unwrap();
    }
    assert_eq!(fence.races(), 0);
});

story!(without_rights_the_fences_say_so, |_| {
    // Version 3 of the call; this thread; no capability of any kind.
    let (header, none) = ([0x2008_0522_u32, 0], [0_u32; 6]);
    // SAFETY: the kernel reads as much of both as there is.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(done, 0);
    let (_, fences) = Fence::open(None, true);
    let why = Err("nftables needs CAP_NET_ADMIN".to_owned());
    assert_eq!((&fences.v4, &fences.v6), (&why, &why));
});

story!(an_address_whose_fence_cannot_be_opened_is_not_held, |_| {
    let mut edge = Edge::start();
    // Another program has our tables for its own, as long as it lives.
    let mut other = Command::new("nft").arg("-i").stdin(Stdio::piped()).spawn().unwrap();
    let tables = "add table arp edgevip { flags owner; }\nadd table ip6 edgevip { flags owner; }\n";
    other.stdin.as_mut().unwrap().write_all(tables.as_bytes()).unwrap();
    eventually("both tables", || run("nft list tables").lines().count() == 2);
    for vip in BOTH {
        let frame = Frame::Announce { mac: mac("eth0"), ip: vip.parse().unwrap() };
        let frame = KernelJob::SendFrame { link: index("eth0"), frame, until: soon(9_000) };
        let batch = [answer(&[vip], soon(9_000)), hold(vip, soon(9_000)), frame];
        let answers = edge.order(batch);
        let [KernelAnswer::Failed(_), KernelAnswer::Failed(why), KernelAnswer::TooLate] =
            &answers[..]
        else {
            panic!("{answers:?}")
        };
        assert!(why.contains("fence"), "{why}");
        assert!(address("eth0", vip).is_none(), "{vip} would answer without a fence");
    }
    other.kill().unwrap();
    other.wait().unwrap();
    eventually("the tables' end", || run("nft list tables").is_empty());
    edge.order([answer(&BOTH, soon(9_000)), hold(BOTH[0], soon(9_000))]);
    assert!(address("eth0", BOTH[0]).is_some());
});

story!(a_silent_address_does_not_answer_but_serves_who_knows_it, |lab| {
    let _edge = silent();
    let mac = mac("eth0");
    for ip in BOTH {
        assert_eq!(lab.client.asks(ip), None, "{ip}");
        assert!(!lab.client.can(&format!("ping -c1 -W1 {ip}")), "{ip}");
        lab.client.ip(&format!("neigh replace {ip} lladdr {mac} dev c0 nud permanent"));
        assert!(lab.client.can(&format!("ping -c1 -W2 {ip}")), "{ip}");
    }
    assert_eq!(lab.client.asks("10.0.0.1"), Some(mac), "what is not ours answers");
    assert_eq!(lab.client.asks("fd00::1"), Some(mac), "what is not ours answers");
});

story!(an_address_answers_when_told_to_until_told_not_to, |lab| {
    let mut edge = silent();
    let own = Some(mac("eth0"));
    edge.done([answer(&BOTH, soon(60_000))]);
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [own, own]);
    edge.done([silence(&BOTH, soon(63_000))]);
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [None, None]);
    edge.done([answer(&BOTH[..1], soon(60_000))]);
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [own, None], "each by itself");
    edge.done([KernelJob::Unfence { vips: vips(&BOTH) }]);
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [own, own], "forgotten");
});

story!(a_silent_address_asks_nobody, |lab| {
    let mut edge = silent();
    let wire = lab.client.hears();
    let asks = |within| {
        wire.find(within, |it| {
            let arp = it.get(12..14) == Some(&[8, 6]) && it.get(28..32) == Some(&[10, 0, 0, 42]);
            let source: [u8; 16] = it.get(22..38)?.try_into().ok()?;
            let nd = it.get(54) == Some(&135)
                && source == [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x42];
            (arp || nd).then_some(())
        })
    };
    for (ip, unknown) in [(BOTH[0], "10.0.0.77"), (BOTH[1], "fd00::77")] {
        let ping = format!("ping -c1 -W1 -I {ip} {unknown}");
        let words: Vec<&str> = ping.split(' ').collect();
        Command::new(words[0]).args(&words[1..]).output().unwrap();
        assert_eq!(asks(Duration::from_millis(200)), None, "{ip}");
        edge.done([answer(&BOTH, soon(60_000))]);
        Command::new(words[0]).args(&words[1..]).output().unwrap();
        assert_eq!(asks(Duration::from_millis(200)), Some(()), "{ip}");
        edge.done([silence(&BOTH, soon(63_000))]);
    }
});

story!(the_fence_closes_by_itself_when_nobody_extends_it, |lab| {
    let mut edge = silent();
    for ip in BOTH {
        let until = soon(700);
        edge.done([answer(&BOTH, until)]);
        // What was asked after the end is answered too late, however late we read the answer.
        let mut last = None;
        loop {
            let asked = clock::now();
            if lab.client.asks(ip).is_none() {
                break;
            }
            last = Some(asked);
        }
        let last = last.expect("an answer before the end");
        println!("{ip}: last answered {:?} before the end", until.saturating_since(last));
        assert!(
            last <= until + FENCE_MARGIN,
            "{ip} answered {:?} late",
            last.saturating_since(until)
        );
        assert!(address("eth0", ip).is_some(), "still there, silent");
    }
});

story!(an_extended_answer_lasts_and_may_be_extended_after_its_end, |lab| {
    let mut edge = silent();
    let own = Some(mac("eth0"));
    edge.done([answer(&BOTH, soon(300))]);
    edge.done([answer(&BOTH, soon(60_000))]);
    eventually("the first end", || {
        lab.client.asks(BOTH[0]).is_none() || {
            let text = run("nft list set arp edgevip live4");
            text.contains("expires 59")
        }
    });
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [own, own]);
    edge.done([answer(&BOTH, soon(150))]);
    eventually("the end", || BOTH.iter().all(|it| lab.client.asks(it).is_none()));
    edge.done([answer(&BOTH, soon(60_000))]);
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [own, own]);
});

story!(an_answer_whose_right_has_ended_closes_what_is_open, |lab| {
    let mut edge = silent();
    assert_eq!(edge.one(answer(&BOTH, clock::now())), KernelAnswer::TooLate);
    assert_eq!(edge.one(answer(&BOTH, soon(15))), KernelAnswer::TooLate, "no tick is left");
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [None, None]);
    edge.done([answer(&BOTH, soon(60_000))]);
    assert_eq!(edge.one(answer(&BOTH, clock::now())), KernelAnswer::TooLate);
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [None, None]);
});

story!(a_flushed_ruleset_is_noticed_and_the_fence_built_again, |lab| {
    let mut edge = silent();
    edge.monitor();
    edge.done([answer(&BOTH[..1], soon(60_000)), KernelJob::VerifyFence]);
    run("nft add table inet others");
    edge.wait("somebody's change", |it| *it == FromKernel::RulesetChanged);
    edge.done([KernelJob::VerifyFence]);
    let before = clock::now();
    run("nft flush ruleset");
    edge.wait("the flush", |it| *it == FromKernel::RulesetChanged);
    println!("flush noticed {:?} after it was ordered", clock::now().saturating_since(before));
    assert_eq!(edge.one(KernelJob::VerifyFence), KernelAnswer::FenceRebuilt);
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [None, None], "all silent");
    edge.done([KernelJob::VerifyFence, answer(&BOTH, soon(60_000))]);
    let own = Some(mac("eth0"));
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [own, own]);
});

story!(orders_find_the_fence_gone_by_themselves, |lab| {
    let mut edge = silent();
    let own = Some(mac("eth0"));
    run("nft flush ruleset");
    assert_eq!(edge.one(answer(&BOTH[..1], soon(60_000))), KernelAnswer::FenceRebuilt);
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [own, None], "rebuilt, and done");
    run("nft delete table arp edgevip");
    assert_eq!(edge.one(silence(&BOTH[..1], soon(63_000))), KernelAnswer::FenceRebuilt);
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [None, None]);
});

story!(a_fence_that_was_tampered_with_is_built_again, |lab| {
    let mut edge = silent();
    for tampering in [
        "nft flush chain arp edgevip output",
        "nft delete table ip6 edgevip",
        "nft flush table ip6 edgevip",
    ] {
        run(tampering);
        assert_eq!(edge.one(KernelJob::VerifyFence), KernelAnswer::FenceRebuilt, "{tampering}");
        assert_eq!(BOTH.map(|it| lab.client.asks(it)), [None, None], "{tampering}");
    }
    // A ruleset saved while it was open, and restored: it would answer, for another while.
    edge.done([answer(&BOTH, soon(60_000))]);
    let saved = run("nft list ruleset");
    edge.done([silence(&BOTH, soon(63_000))]);
    let file = std::env::temp_dir().join(format!("ruleset-{}", std::process::id()));
    std::fs::write(&file, format!("flush ruleset\n{saved}")).unwrap();
    run(&format!("nft -f {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(edge.one(KernelJob::VerifyFence), KernelAnswer::FenceRebuilt);
    assert_eq!(BOTH.map(|it| lab.client.asks(it)), [None, None]);
});

story!(own_changes_wake_nobody, |_| {
    let mut edge = silent();
    edge.monitor();
    edge.rest(Duration::from_millis(100));
    for round in 0..20 {
        edge.done([answer(&BOTH, soon(60_000 + round)), silence(&BOTH, soon(63_000))]);
    }
    edge.done([KernelJob::VerifyFence]);
    assert_eq!(edge.rest(Duration::from_millis(150)), []);
});

story!(a_busy_ruleset_of_others_is_told_of_in_moderation, |_| {
    let mut edge = silent();
    edge.monitor();
    edge.rest(Duration::from_millis(100));
    let before = clock::now();
    for table in 0..40 {
        run(&format!("nft add table inet other{table}"));
    }
    let took = clock::now().saturating_since(before);
    let told = edge.rest(Duration::from_millis(150)).len() as u128;
    println!("40 changes in {took:?}: told {told} times");
    assert!((1..=took.as_millis() / 50 + 2).contains(&told), "{told}");
});

story!(when_the_process_is_gone_nothing_is_left_that_denies_the_address, |lab| {
    let mut edge = Edge::start();
    edge.done([silence(&BOTH, soon(1_200)), answer(&BOTH, soon(100))]);
    drop(edge);
    ip("addr add 10.0.0.42/24 dev eth0");
    ip("addr add fd00::42/64 dev eth0 nodad");
    eventually("the end of the answer", || lab.client.asks(BOTH[0]).is_none());
    let own = Some(mac("eth0"));
    eventually("another program's address answers", || {
        BOTH.iter().all(|it| lab.client.asks(it) == own)
    });
});

story!(what_no_fence_names_is_said_to_be_left, |_| {
    drop(silent());
    run("nft flush ruleset");
    let mut edge = Edge::start();
    assert_eq!(edge.one(clean(&[])), KernelAnswer::FenceRebuilt);
    assert!(address("eth0", BOTH[0]).is_some(), "nobody names it");
    edge.done([clean(&BOTH)]);
    drop(edge);
    run("nft flush ruleset");
    Edge::start().done([clean(&[])]);
});

story!(two_instances_do_not_disturb_each_other, |lab| {
    let with = |instance: &str| {
        Edge::with(KernelOptions {
            instance: Some(instance.to_owned()),
            fence: true,
            ..KernelOptions::default()
        })
    };
    let (mut one, mut two) = (with("one"), with("two, \"quoted\""));
    one.done([silence(&BOTH[..1], soon(63_000)), hold(BOTH[0], soon(60_000))]);
    two.done([silence(&BOTH[1..], soon(63_000)), hold(BOTH[1], soon(60_000))]);
    two.done([clean(&[])]);
    assert!(address("eth0", BOTH[0]).is_some() && address("eth0", BOTH[1]).is_none());
    assert_eq!(lab.client.asks(BOTH[0]), None);
    one.done([KernelJob::VerifyFence, answer(&BOTH[..1], soon(60_000))]);
    assert_eq!(lab.client.asks(BOTH[0]), Some(mac("eth0")));
});
