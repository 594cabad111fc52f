"""The HTTP interface of the viewer. Imports the model, exports and the store."""
