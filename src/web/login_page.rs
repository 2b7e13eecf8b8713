//! The form that asks for a name and a password.

use maud::html;

use super::LOGIN;
use super::html::{Frame, page};
use crate::base::id::RequestId;

/// What the form shows.
#[derive(Clone, Copy, Debug)]
pub struct LoginPage<'a> {
    /// Which gate this is: the name of the realm, or the host that was asked for.
    pub realm: &'a str,
    /// Where to go afterwards; sent back as it is and judged by whoever receives the form.
    pub to: &'a str,
    /// The value that shows that the form came from us.
    pub csrf: &'a str,
    /// The name that was tried before.
    pub user: Option<&'a str>,
    /// Why this page is shown again.
    pub error: Option<(&'a str, RequestId)>,
}

/// The login page: one form, without JavaScript, in the shape that password managers look for.
pub fn login_page(shown: &LoginPage<'_>) -> String {
    let title = match shown.error {
        Some(_) => "Not logged in: please try again",
        None => "Log in",
    };
    // Whoever has to type the password again wants the cursor there.
    let has_user = shown.user.is_some_and(|name| !name.is_empty());
    let invalid = shown.error.map(|_| "true");
    let described = shown.error.map(|_| "error");
    page(
        Frame::new(title, shown.realm),
        html! {
            h1 { "Log in" }
            @if let Some(error) = shown.error { p.error #error role="alert" { (error.0) } }
            form.login method="post" action=(LOGIN) {
                input type="hidden" name="csrf" value=(shown.csrf);
                input type="hidden" name="to" value=(shown.to);
                label for="user" { "User name" }
                input #user name="user" type="text" value=[shown.user] autocomplete="username" autocapitalize="none"
                    autocorrect="off" spellcheck="false" maxlength="256" required autofocus[!has_user]
                    aria-invalid=[invalid] aria-describedby=[described];
                label for="password" { "Password" }
                input #password name="password" type="password" autocomplete="current-password" maxlength="1024" required
                    autofocus[has_user] aria-invalid=[invalid] aria-describedby=[described];
                button type="submit" { "Log in" }
            }
        },
        html! {
            p { "Protected by loopgate. Your password goes to this address and nowhere else." }
            @if let Some((_, id)) = shown.error { p { "Request id " code { (id) } "." } }
        },
    )
}

/// The address of the login page that leads on to `to` (a path with its query) afterwards.
pub fn login_url(to: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut url = format!("{LOGIN}?to=");
    for byte in to.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            url.push(byte.into());
        } else {
            url.push('%');
            url.push(HEX[usize::from(byte >> 4)].into());
            url.push(HEX[usize::from(byte & 15)].into());
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: LoginPage<'_> = LoginPage {
        realm: "app.lan",
        to: "/a?b=\"1\"&c",
        csrf: "c5rf",
        user: None,
        error: None,
    };

    #[test]
    fn is_one_form_that_password_managers_know() {
        let text = login_page(&SHOWN);
        assert_eq!(text.matches("<form").count(), 1);
        for part in [
            "method=\"post\" action=\"/.loopgate/login\"",
            "autocomplete=\"username\"",
            "autocomplete=\"current-password\"",
            "name=\"csrf\" value=\"c5rf\"",
            "value=\"/a?b=&quot;1&quot;&amp;c\"",
            "<label for=\"user\">",
            "<label for=\"password\">",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("role=\"alert\"") && !text.contains("aria-invalid"));
    }

    #[test]
    fn says_what_was_wrong_and_keeps_the_name_but_never_the_password() {
        let text = login_page(&LoginPage {
            user: Some("<bob>"),
            error: Some(("No.", RequestId::fresh())),
            ..SHOWN
        });
        assert!(text.contains("role=\"alert\">No."));
        assert!(text.contains("value=\"&lt;bob&gt;\""));
        assert!(text.contains("aria-describedby=\"error\""));
        let password = text.split_once("id=\"password\"").map(|(_, rest)| rest);
        assert!(password.is_some_and(|rest| !rest.contains("value=")));
    }

    #[test]
    fn address_keeps_the_target_together() {
        for (to, url) in [
            ("/", "/.loopgate/login?to=/"),
            ("/a?b=c&d#e", "/.loopgate/login?to=/a%3Fb%3Dc%26d%23e"),
            ("/ü\r\n", "/.loopgate/login?to=/%C3%BC%0D%0A"),
        ] {
            assert_eq!(login_url(to), url);
        }
    }
}
