"""The embedded renderer: a face mesh, warped, with a mouth that opens."""
