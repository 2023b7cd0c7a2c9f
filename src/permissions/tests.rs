use super::*;

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|part| part.to_string()).collect()
}

fn of(allow: &[&str], deny: &[&str]) -> Permissions {
    Permissions::of(&owned(allow), &owned(deny)).expect("they can be read")
}

/// Returns whether a URL may be reached. If its host is a name, the name has this address.
fn reaches(permissions: &Permissions, url: &str, address: &str) -> bool {
    let target = Target::of(&reqwest::Url::parse(url).expect("a URL")).expect("a host");
    let address = target.address().unwrap_or_else(|| address.parse().expect("an address"));
    permissions.check_host(&target).and_then(|()| permissions.check_address(&target, address)).is_ok()
}

fn reads(permissions: &Permissions, path: &str) -> bool {
    permissions.check_path(Capability::Read, &real(Path::new(path)), path, None).is_ok()
}

#[test]
fn lists_go_on_until_another_kind_is_named() {
    let all = of(&[], &[]);
    assert!(all.are_all() && reaches(&all, "http://a.com/", "1.2.3.4"));
    let some = of(&["net=a.com,b.com,env=HOME,LC_*,exec"], &[]);
    assert!(reaches(&some, "http://b.com:8080/", "1.2.3.4") && !reaches(&some, "http://c.com/", "1.2.3.4"));
    assert!(some.check_variable("HOME").is_ok() && some.check_variable("LC_ALL").is_ok());
    assert!(some.check_variable("TOKEN").is_err() && !reads(&some, "x"));
    assert!(some.is_whole(Capability::Exec) && !some.is_whole(Capability::Net));
    let files = of(&["fs=/srv,read=/etc"], &["write=/srv/keep"]);
    let may = |capability, path: &str| files.check_path(capability, Path::new(path), path, None).is_ok();
    assert!(
        may(Capability::Read, "/srv/a")
            && may(Capability::Write, "/srv/a")
            && may(Capability::Read, "/etc/a")
    );
    assert!(!may(Capability::Write, "/etc/a") && !may(Capability::Write, "/srv/keep/a"));
    assert!(may(Capability::Read, "/srv/keep/a"));
}

#[test]
fn an_empty_list_allows_nothing() {
    let none = of(&[""], &[]);
    assert!(!none.are_all() && !reads(&none, "x") && none.check_variable("HOME").is_err());
}

#[test]
fn what_can_match_nothing_is_an_error() {
    let words = [
        "nett",
        "read=",
        "fs=a*",
        "env=A=B",
        "env=*",
        "env=A B",
        "net=*",
        "net=*:80",
        "net=http://a.com",
        "net=a.com/x",
        "net=127.0.0.0/33",
        "net=[::1",
        "net=:80",
        "net=a.com:0",
        "net=a.com:70000",
        "net=a.com:http",
        "net=*.1.2.3.4",
        "net=a b",
        "net=a@b",
        "net=*.*.com",
        "net=::1:x",
        "exec=no-such-program-anywhere",
        "exec=/no/such/program",
        "exec=*",
    ];
    for word in words {
        assert!(Permissions::of(&owned(&[word]), &[]).is_err(), "{word}");
    }
}

#[test]
fn hosts_addresses_ranges_and_ports() {
    let cases: [(&str, &[&str], &[&str]); 9] = [
        (
            "a.com",
            &["http://a.com/", "https://A.com./", "http://a.com:81/"],
            &["http://x.a.com/", "http://1.2.3.4/"],
        ),
        ("a.com:80", &["http://a.com/", "http://a.com:80/"], &["https://a.com/", "http://a.com:8080/"]),
        (
            "*.a.com:443",
            &["https://x.a.com/", "https://y.x.a.com/"],
            &["https://a.com/", "https://xa.com/", "http://x.a.com/"],
        ),
        (
            "10.0.0.0/8",
            &["http://10.1.2.3/", "http://[::ffff:10.1.2.3]/", "http://167837955/"],
            &["http://11.0.0.1/"],
        ),
        ("10.0.0.0/8:443", &["https://10.1.2.3/"], &["http://10.1.2.3/"]),
        ("::1", &["http://[::1]/", "http://[0:0::1]:81/"], &["http://127.0.0.1/", "http://[::2]/"]),
        ("[::1]:80", &["http://[::1]/"], &["https://[::1]/"]),
        ("[fe80::]/10", &["http://[fe80::7]/", "http://[febf::]/"], &["http://[fec0::]/"]),
        ("127.1", &["http://127.0.0.1/", "http://0x7f.1/"], &["http://127.0.0.2/"]),
    ];
    for (pattern, inside, outside) in cases {
        let allowed = of(&[&format!("net={pattern}")], &[]);
        for url in inside {
            assert!(reaches(&allowed, url, "9.9.9.9"), "{pattern} {url}");
        }
        for url in outside {
            assert!(!reaches(&allowed, url, "9.9.9.9"), "{pattern} {url}");
        }
    }
    // A range covers names with addresses in it.
    let range = of(&["net=10.0.0.0/8"], &["net=10.9.0.0/16:80"]);
    assert!(reaches(&range, "http://a.com/", "10.1.1.1") && !reaches(&range, "http://a.com/", "11.1.1.1"));
    assert!(!reaches(&range, "http://a.com/", "10.9.1.1") && reaches(&range, "https://a.com/", "10.9.1.1"));
}

#[test]
fn this_machine_is_denied_under_all_its_names() {
    for denied in ["127.0.0.1", "localhost", "127.0.0.0/8", "::1", "0.0.0.0"] {
        let permissions = of(&[], &[&format!("net={denied}")]);
        for host in [
            "127.0.0.1",
            "127.0.0.2",
            "0.0.0.0",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:0:0]",
            "localhost",
            "localhost.",
            "LOCALHOST",
            "a.localhost",
            "2130706433",
            "0x7f.1",
            "[64:ff9b::7f00:1]",
        ] {
            assert!(!reaches(&permissions, &format!("http://{host}:8080/"), "127.0.0.1"), "{denied} {host}");
        }
        assert!(!reaches(&permissions, "http://a.com/", "127.0.0.1"), "{denied}");
        assert!(reaches(&permissions, "http://a.com/", "10.0.0.1"), "{denied}");
    }
    let port = of(&[], &["net=127.0.0.1:80"]);
    assert!(!reaches(&port, "http://127.0.0.1/", "") && !reaches(&port, "http://localhost/", "::1"));
    assert!(
        reaches(&port, "http://127.0.0.1:8080/", "") && reaches(&port, "http://localhost:8080/", "127.0.0.1")
    );
}

#[test]
fn a_pattern_is_read_again_as_it_is_shown() {
    for text in [
        "0xc",
        "10",
        "a.com.",
        "*.a.com.",
        "a。com",
        "1.2.3",
        "[::1]:80",
        "::ffff:0:0/100",
        "xn--e1afmkfd.a",
        "ß.com",
    ] {
        let pattern = net::Pattern::parse(text).expect(text);
        assert_eq!(net::Pattern::parse(&pattern.to_string()), Ok(pattern), "{text}");
    }
    for text in [
        "0xc..",
        "10..",
        ".10..",
        "a..",
        "a..com",
        ".com",
        "*..com",
        "a.+.0.....",
        "a。。",
        ".",
        "*.",
        "*.0xc",
    ] {
        assert!(net::Pattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn paths_are_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |path: &str| folder.path().join(path).display().to_string();
    std::fs::create_dir(at("data")).expect("a folder");
    std::os::unix::fs::symlink("/", at("data/root")).expect("a link");
    let allowed = of(&[&format!("fs={}", at("data"))], &[]);
    let may = |path: &str| reads(&allowed, &at(path));
    assert!(may("data") && may("data/new/file.txt") && may("data/x/../y"));
    assert!(
        !may("data2") && !may("data/../other") && !may("data/root/etc/passwd") && !may("data/no/../../z")
    );
}

#[test]
fn programs_are_files_and_not_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |path: &str| folder.path().join(path).display().to_string();
    std::fs::copy("/bin/true", at("true")).expect("a copy");
    std::os::unix::fs::symlink("/bin/true", at("link")).expect("a link");
    let allowed = of(&["exec=true"], &[]);
    let may = |name: &str| allowed.program(name, None, &[]).is_ok();
    assert!(may("true") && may("/bin/true") && !may("false") && !may(&at("true")) && !may(&at("link")));
    let variables = |name: &str| [(name.to_string(), "x".to_string())];
    for name in [
        "PATH",
        "LD_PRELOAD",
        "LD_AUDIT",
        "BASH_ENV",
        "GIT_SSH_COMMAND",
        "PYTHONPATH",
        "DYLD_INSERT_LIBRARIES",
    ] {
        assert!(allowed.program("true", None, &variables(name)).is_err(), "{name}");
        assert!(of(&["exec"], &[]).program("true", None, &variables(name)).is_ok(), "{name}");
        assert!(of(&[], &["exec=rm"]).program("true", None, &variables(name)).is_err(), "{name}");
    }
    assert!(allowed.program("true", None, &variables("COLOR")).is_ok());
    for denied in ["true", "/bin/true", "/usr/bin/true"] {
        let permissions = of(&[], &[&format!("exec={denied}")]);
        let may = |name: &str| permissions.program(name, None, &[]).is_ok();
        assert!(!may("true") && !may("/bin/true") && !may(&at("link")) && may("false"), "{denied}");
    }
}

#[test]
fn rules_are_added_and_never_taken_away() {
    let first = of(&["net=a.com,read=/srv"], &["exec=rm"]);
    let second = of(&["net", "fs", "exec", "env"], &[]);
    let both = first.and(&second);
    assert!(!reaches(&both, "http://b.com/", "1.2.3.4") && reaches(&both, "http://a.com/", "1.2.3.4"));
    assert_eq!(
        (both.and(&first), both.and(&both), first.and(&of(&[], &[]))),
        (both.clone(), both.clone(), first.clone())
    );
    // Recorded rules are the same, and know that they are recorded.
    let bytes = postcard::to_stdvec(&both).expect("bytes");
    let read: Permissions = postcard::from_bytes(&bytes).expect("permissions");
    assert_eq!(read, both);
    let json = serde_json::to_string(&both).expect("JSON");
    assert_eq!(serde_json::from_str::<Permissions>(&json).expect("permissions"), both);
    let refused = read.check_variable("HOME").expect_err("it is not allowed").title();
    let kept = "not_permitted: `HOME` is not permitted by the restrictions that the instance keeps: --allow net=a.com,";
    assert!(refused.starts_with(kept), "{refused}");
    assert!(
        postcard::from_bytes::<Permissions>(&postcard::to_stdvec(&of(&[], &[])).expect("bytes"))
            .expect("all")
            .are_all()
    );
}
