//! The control plane.

use std::process::ExitCode;

use transship_model::Stage;

fn main() -> ExitCode {
    // What the environment says of failpoints takes effect.
    #[cfg(feature = "failpoints")]
    let _scenario = transship_stage::failpoints();
    transship_host::launch(Stage::ControlPlane, std::env::args().skip(1), transship_control_plane::run).into()
}
