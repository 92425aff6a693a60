//! What every help text has in common: examples first, then usage, options, and the exit codes.

/// The order of a help text.
pub(crate) const TEMPLATE: &str = "\
{about-with-newline}
{before-help}{usage-heading} {usage}

{all-args}{after-help}";

/// The exit codes, at the end of every help text.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done, or nothing was left to do
  1    failed
  2    the command line or the configuration is wrong; nothing was moved
  3    done, but some artifacts failed (--continue-on-errors)
  4    a credential is missing, has expired or may not do this; repeat the command once it may
  130  interrupted; the same command resumes";

/// Where credentials come from, at the end of the help of every command that needs some.
pub(crate) const CREDENTIALS: &str = "\
Credentials:
  Registries  the Docker configuration as `docker login` writes it, credential helpers included:
              $DOCKER_CONFIG/config.json or ~/.docker/config.json
  Storage     a SAS token in a file or in the environment, never on the command line";

/// After the options of every command that asks a control plane.
pub(crate) const CONTROL: &str = "\
Control plane:
  Which one   --context, TRANSSHIP_CONTEXT, the context in use (`transship context list`), or
              else the stack of `make up` (.local/endpoints.json)
  Token       the file that the context names, or TRANSSHIP_TOKEN; never on the command line

Exit codes:
  0    done, or nothing was left to do
  1    failed
  2    the command line or the configuration is wrong; nothing was moved
  3    done, but some artifacts failed (--continue-on-errors)
  4    a credential is missing, has expired or may not do this; repeat the command once it may
  130  interrupted; the same command resumes";

/// Whole text after the options of a command that moves something.
pub(crate) fn after() -> String {
    format!("{CREDENTIALS}\n\n{EXIT_CODES}")
}
