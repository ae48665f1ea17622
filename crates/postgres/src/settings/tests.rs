use super::*;

#[test]
fn values_cannot_break_out() {
    assert_eq!(quote("p", r"it's a \ x").unwrap(), r"'it''s a \\ x'");
    for bad in ["a\nport = 1", "a\rb", "a\0b"] {
        assert!(matches!(quote("p", bad), Err(SettingsError::Value { .. })));
    }
    assert_eq!(conninfo_value("10.0.0.1"), "10.0.0.1");
    assert_eq!(conninfo_value("fe80::1"), "fe80::1");
    assert_eq!(conninfo_value(r"a b'c\d"), r"'a b\'c\\d'");
    assert_eq!(conninfo_value(""), "''");
}

#[test]
fn include_is_the_last_line_exactly_once() {
    let once = with_include("port = 1\n\n");
    assert_eq!(once, "port = 1\ninclude 'howdah.conf'\n");
    assert_eq!(with_include(&once), once);
    let behind = format!("{once}fsync = off\n");
    assert_eq!(with_include(&behind), "port = 1\nfsync = off\ninclude 'howdah.conf'\n");
    assert_eq!(with_include(""), "include 'howdah.conf'\n");
}

#[test]
fn auto_conf_loses_only_what_howdah_decides() {
    let text = "# c\nprimary_conninfo = 'host=x'\nwork_mem = '4MB'\n  PORT='5'\nport_x = 1\n";
    let (kept, removed) = clean_auto_conf(text, &["primary_conninfo", "port"]);
    assert_eq!(kept, "# c\nwork_mem = '4MB'\nport_x = 1\n");
    assert_eq!(removed, ["primary_conninfo", "port"]);
}

#[test]
fn application_names_carry_the_data_id() {
    let name = application_name(&MemberName::from("pg-1"), DataId(0xab)).unwrap();
    assert_eq!(name, "pg-1-00000000000000ab");
    assert_eq!(parse_application_name(&name), Some((MemberName::from("pg-1"), DataId(0xab))));
    for other in
        ["pg-1", "walreceiver", "-00000000000000ab", "a-00000000000000zz", "a-+0000000000000b"]
    {
        assert_eq!(parse_application_name(other), None, "{other}");
    }
    for bad in ["", "naïve", "a b", &"x".repeat(47)] {
        assert!(application_name(&MemberName::from(bad), DataId(1)).is_err(), "{bad:?}");
    }
    assert!(application_name(&MemberName("x".repeat(46)), DataId(1)).unwrap().len() == 63);
}

#[test]
fn a_promise_keeps_the_target_and_drops_every_source() {
    let follow = Follow {
        host: "h".into(),
        port: 1,
        application_name: "a".into(),
        slot: None,
        user: "u".into(),
        passfile: None,
        tls: None,
    };
    let promised = Dynamic::follow(follow, Some("cp".into())).promised();
    assert_eq!(promised.upstream, Upstream::Isolated);
    assert_eq!((promised.restore_command, promised.target), (None, TargetTimeline::Latest));
}
