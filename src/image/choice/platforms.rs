//! Which manifests of an image are meant: those for a platform, or all.

use super::Descriptor;
use crate::image::error::{Error, Result};
use crate::image::platform::Platform;
use crate::image::tree::Image;

/// Numbers of the manifests for a platform; of all, if none was asked for. The others are not needed any more.
pub(super) fn choose(image: &mut Image, platform: Option<&Platform>) -> Result<Vec<usize>> {
    if let (None, Some(absent)) = (platform, image.absent().next()) {
        return Err(not_here(absent));
    }
    let chosen = for_platform(image, platform)?;
    for (number, manifest) in image.manifests_mut().into_iter().enumerate() {
        manifest.needed = chosen.contains(&number);
    }
    Ok(chosen)
}

/// Numbers of the manifests for a platform; of all that are here, if none was asked for.
///
/// # Errors
/// [`Error::NoSuchPlatform`] when there is no such manifest; [`Error::ManifestAbsent`] when it is not here.
pub fn for_platform(image: &Image, platform: Option<&Platform>) -> Result<Vec<usize>> {
    let manifests = image.manifests();
    let Some(platform) = platform else {
        return Ok((0..manifests.len()).collect());
    };
    let wanted = |own: Option<&Platform>| own.is_some_and(|own| platform.includes(own));
    let mut absent = image.absent();
    if let Some(absent) = absent.find(|entry| wanted(entry.platform().as_ref())) {
        return Err(not_here(absent));
    }
    let numbers: Vec<usize> = (0..manifests.len())
        .filter(|&number| wanted(manifests[number].platform.as_ref()))
        .collect();
    if numbers.is_empty() {
        let platforms = manifests.iter().filter_map(|it| it.platform.as_ref());
        return Err(Error::NoSuchPlatform {
            platform: platform.to_string(),
            there: platforms.map(ToString::to_string).take(10).collect(),
        });
    }
    Ok(numbers)
}

fn not_here(manifest: &Descriptor) -> Error {
    Error::ManifestAbsent {
        name: manifest.name(),
        platform: manifest.platform().map(|platform| platform.to_string()),
    }
}
