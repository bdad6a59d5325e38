"""The bundled demonstration, in which scripted policies play the LMs."""
