use super::*;
use crate::no_proxy::with_loopback;

fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, InvalidProxy> {
    let value = |name: &str| {
        let found = variables.iter().find(|(theirs, _)| *theirs == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Proxies::from_variables(value)
}

fn between(proxies: &Proxies, address: &str) -> Option<String> {
    let address = Url::parse(address).unwrap();
    proxies.between(&address).map(ToString::to_string)
}

#[test]
fn each_scheme_has_its_proxy() {
    let both = proxies(&[
        ("HTTPS_PROXY", "http://secure:3128"),
        ("http_proxy", "plain:8888"),
        ("HTTP_PROXY", "http://other:1"),
        ("all_proxy", "socks5h://all:1080"),
    ])
    .unwrap();
    let secure = between(&both, "https://api.github.com/user");
    assert_eq!(secure.as_deref(), Some("http://secure:3128"));
    let plain = between(&both, "http://git.example.com");
    assert_eq!(
        plain.as_deref(),
        Some("http://plain:8888"),
        "small letters come first"
    );
    let all = proxies(&[("ALL_PROXY", "socks5h://all:1080"), ("https_proxy", "")]).unwrap();
    let secure = between(&all, "https://api.github.com");
    assert_eq!(
        secure.as_deref(),
        Some("socks5h://all:1080"),
        "empty is absent"
    );
    assert_eq!(between(&Proxies::default(), "https://api.github.com"), None);
}

#[test]
fn this_host_is_never_reached_through_a_proxy() {
    let all = proxies(&[("ALL_PROXY", "http://proxy:3128")]).unwrap();
    for address in [
        "http://localhost:8080",
        "https://LOCALHOST/",
        "http://api.localhost:1",
        "http://127.0.0.1:8080",
        "http://127.8.9.10",
        "http://[::1]:8080",
        "http://[::ffff:127.0.0.1]",
        "http://0.0.0.0:8080",
        "http://[::]:8080",
    ] {
        assert_eq!(between(&all, address), None, "{address}");
    }
    for address in ["http://localhost.example.com", "http://128.0.0.1"] {
        assert!(between(&all, address).is_some(), "{address}");
    }
}

#[test]
fn hosts_of_no_proxy_are_reached_directly_however_people_write_them() {
    let list = "git.corp, .lan,*.example.com 10.0.0.0/8,[fd00::1],host:8443,192.0.2.7";
    let some = proxies(&[("https_proxy", "http://proxy:3128"), ("NO_PROXY", list)]).unwrap();
    for address in [
        "https://git.corp",
        "https://api.git.corp:8443",
        "https://a.lan",
        "https://a.example.com",
        "https://10.1.2.3",
        "https://[fd00::1]/x",
        "https://host:8443",
        "https://192.0.2.7",
    ] {
        assert_eq!(between(&some, address), None, "{address}");
    }
    for address in [
        "https://notgit.corp",
        "https://11.0.0.1",
        "https://github.com",
    ] {
        assert!(between(&some, address).is_some(), "{address}");
    }
    let none = proxies(&[("https_proxy", "http://proxy:3128"), ("no_proxy", "*")]).unwrap();
    assert_eq!(between(&none, "https://github.com"), None);
    assert_eq!(
        with_loopback("*.a.b, [::2]:1"),
        "a.b,::2,localhost,127.0.0.1,::1"
    );
}

#[test]
fn what_is_no_proxy_is_refused_and_never_shown() {
    for bad in [
        "ftp://user:hush@proxy",
        "http://user:hu/sh@proxy:3128",
        "http://",
        "http://:hush@",
        "http://proxy:99999",
        "socks5://",
    ] {
        let error = proxies(&[("HTTPS_PROXY", bad)]).unwrap_err().to_string();
        assert!(error.contains("HTTPS_PROXY"), "{error}");
        assert!(!error.contains("hu"), "{error}");
    }
    let with = proxies(&[("https_proxy", "user:hush@proxy:3128")]).unwrap();
    let shown = format!("{with:?} {:?}", between(&with, "https://github.com"));
    assert!(shown.contains("http://proxy:3128"), "{shown}");
    assert!(
        !shown.contains("hush") && !shown.contains("user"),
        "{shown}"
    );
}
