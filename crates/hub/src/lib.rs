//! # The Hugging Face hub
//!
//! [`Access`] is where the hub is, and who is asking, by the settings that Hugging Face's own tools read. [`push`] uploads a
//! folder as `hf upload` does:
//!
//! ```no_run
//! use panacea_hub::{Access, Push, push};
//!
//! let wanted = Push {
//!     message: "First run",
//!     ..Push::new("adapters".as_ref(), "me/first")
//! };
//! let pushed = push(&Access::from_environment(), &wanted, &mut |_| ())?;
//! println!("{}", pushed.url);
//! # Ok::<(), panacea_hub::HubError>(())
//! ```
//!
//! 1. The repository is made, unless it is there, and the branch.
//! 2. The hub checks the front matter of the model card, and says of each file whether it goes into the commit or into its
//!    store of large files (Git LFS), and what it has by that name.
//! 3. What it has is not sent again. Large files go to where the hub says, in one piece or in parts.
//! 4. One commit holds them all: whoever reads the repository meets the state before it or the one behind it.
//!
//! ## The token
//! It goes to the hub ([`Access::endpoint`]) and nowhere else: no redirection is followed, the store of large files is sent
//! what the hub said it needs, and no error has it.
//!
//! ## Is this for you?
//! Yes, if you have a folder to publish. Models are downloaded by `panacea-pretrained`.

mod access;
mod client;
mod error;
mod lfs;
mod local;
mod push;

pub use access::Access;
pub use error::HubError;
pub use push::{Progress, Push, Pushed, push};
