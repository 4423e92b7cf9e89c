"""One self-contained HTML page of a test run."""

from .gallery import GalleryImage, gallery_image
from .page import render_page

__all__ = ['GalleryImage', 'gallery_image', 'render_page']
