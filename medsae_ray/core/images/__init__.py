"""The way from the address of an image to its pixels: PNG, JPEG, TIFF, DICOM and NIfTI, in folders and archives."""
