//! A picture as pixels. Its font is built in (the letters of DejaVu Sans that pictures use; its licence stands beside it), so that it looks the same everywhere.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{self, Tree};

const REGULAR: &[u8] = include_bytes!("font/DejaVuSans.ttf");
const BOLD: &[u8] = include_bytes!("font/DejaVuSans-Bold.ttf");
/// Pixels for each unit of the picture: sharp on screens of today.
const SCALE: f32 = 2.0;

/// Why a picture has no pixels.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    /// It is no SVG.
    #[error(transparent)]
    Svg(#[from] usvg::Error),
    /// It is too large, or cannot be packed.
    #[error("the picture cannot be made: {0}")]
    Pixels(String),
}

/// The bytes of a PNG file with a picture of [`super::svg`], in twice its size.
pub fn png(svg: &str) -> Result<Vec<u8>, PngError> {
    let mut fonts = Database::new();
    fonts.load_font_data(REGULAR.to_vec());
    fonts.load_font_data(BOLD.to_vec());
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size();
    let size = size.scale_by(SCALE).ok_or_else(|| PngError::Pixels("its size".into()))?;
    let mut pixels = Pixmap::new(size.width(), size.height())
        .ok_or_else(|| PngError::Pixels("no memory for it".into()))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| PngError::Pixels(error.to_string()))
}
