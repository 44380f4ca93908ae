"""Generated CT-like chest slices with lung and nodule masks."""
