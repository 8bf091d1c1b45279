"""One parser for each API of the providers; :data:`llmspan.wire.reading.PARSERS` names them."""
