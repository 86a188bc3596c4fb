"""The formats of footprint files, each written from a stream and looked at again afterwards."""
