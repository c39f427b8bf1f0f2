//! The variables by which programs in a sandbox find the proxies.

/// Variables for programs of the setup phase, whose proxy is at this port of the loopback.
///
/// Every usual client is named, as few of them read the same variable. `ALL_PROXY` is empty,
/// because some take it for SOCKS.
pub fn proxy_variables(port: u16) -> Vec<(String, String)> {
    let proxy = format!("http://127.0.0.1:{port}");
    let local = "localhost,127.0.0.1,::1";
    let mut variables = Vec::new();
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
        variables.push((name, proxy.clone()));
    }
    for name in ["NO_PROXY", "no_proxy"] {
        variables.push((name, local.to_owned()));
    }
    for name in ["ALL_PROXY", "all_proxy", "FTP_PROXY", "ftp_proxy"] {
        variables.push((name, String::new()));
    }
    for name in [
        "npm_config_proxy",
        "npm_config_https_proxy",
        "YARN_HTTP_PROXY",
        "YARN_HTTPS_PROXY",
        "PIP_PROXY",
        "CARGO_HTTP_PROXY",
        "BUNDLE_HTTP_PROXY",
        "BUNDLE_HTTPS_PROXY",
    ] {
        variables.push((name, proxy.clone()));
    }
    variables.push(("npm_config_noproxy", local.to_owned()));
    // Node reads the usual variables only when it is asked to, since 22.21 and 24.
    variables.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    let java = format!(
        "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort={port} -Dhttps.proxyHost=127.0.0.1 \
         -Dhttps.proxyPort={port} -Dhttp.nonProxyHosts=localhost|127.*|[::1]"
    );
    variables.push(("JAVA_TOOL_OPTIONS", java));
    variables
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Stands for the model's address in the values of variables.
pub const URL_PLACEHOLDER: &str = "{url}";

/// Variables by which usual coding command lines find their model, with [`URL_PLACEHOLDER`] for its
/// address. The keys are none: these programs just don't start without one.
pub fn model_variables() -> Vec<(String, String)> {
    let key = "patchfleet-adds-the-key";
    [
        ("ANTHROPIC_BASE_URL", "{url}"),
        ("ANTHROPIC_API_KEY", key),
        ("OPENAI_BASE_URL", "{url}/v1"),
        ("OPENAI_API_KEY", key),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(variables: &'a [(String, String)], name: &str) -> &'a str {
        let found: Vec<_> = variables.iter().filter(|(it, _)| it == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        &found[0].1
    }

    #[test]
    fn every_client_is_led_to_the_proxy_and_none_away_from_it() {
        let variables = proxy_variables(3128);
        for name in [
            "HTTP_PROXY",
            "https_proxy",
            "npm_config_proxy",
            "PIP_PROXY",
            "CARGO_HTTP_PROXY",
        ] {
            assert_eq!(value(&variables, name), "http://127.0.0.1:3128");
        }
        assert_eq!(value(&variables, "ALL_PROXY"), "");
        assert_eq!(value(&variables, "NODE_USE_ENV_PROXY"), "1");
        assert!(value(&variables, "no_proxy").starts_with("localhost,"));
        assert!(value(&variables, "JAVA_TOOL_OPTIONS").contains("-Dhttps.proxyPort=3128 "));
    }

    #[test]
    fn a_command_line_gets_the_models_address_and_no_key() {
        let variables = model_variables();
        assert_eq!(value(&variables, "ANTHROPIC_BASE_URL"), URL_PLACEHOLDER);
        assert_eq!(value(&variables, "OPENAI_BASE_URL"), "{url}/v1");
        assert!(!value(&variables, "ANTHROPIC_API_KEY").starts_with("sk-"));
    }
}
