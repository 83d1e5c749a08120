//! URLs that name several servers, as those of a cluster: `mysql://USER@ONE,TWO:PORT,THREE/DATABASE`. They are tried in their order.

/// The URL once for each of its servers, with the part of it that names the server.
pub(super) fn each(url: &str) -> Vec<(&str, String)> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec![("", url.to_owned())];
    };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (credentials, places) = match authority.rfind('@') {
        Some(at) => authority.split_at(at + 1),
        None => ("", authority),
    };
    places.split(',').map(|place| (place, format!("{scheme}://{credentials}{place}{tail}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_into_one_for_each_server() {
        let urls = |url| each(url).into_iter().map(|(_, url)| url).collect::<Vec<_>>();
        assert_eq!(urls("mysql://u:a,b@db/audit?x=1,2"), ["mysql://u:a,b@db/audit?x=1,2"]);
        assert_eq!(
            urls("mysql://u:p@one,two:3307,[::1]:3308/audit?x=1"),
            [
                "mysql://u:p@one/audit?x=1",
                "mysql://u:p@two:3307/audit?x=1",
                "mysql://u:p@[::1]:3308/audit?x=1"
            ]
        );
        assert_eq!(
            each("mysql://one,two").iter().map(|(place, _)| *place).collect::<Vec<_>>(),
            ["one", "two"]
        );
        for odd in ["", "mysql", "mysql://", "mysql://@,/", "mysql://a@b@,,c"] {
            assert!(!each(odd).is_empty());
        }
    }
}
