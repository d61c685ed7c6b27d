"""Files with what is wrong in them mended, as far as a file can be mended without knowing what it is for."""
