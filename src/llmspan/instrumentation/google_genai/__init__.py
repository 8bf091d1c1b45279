"""The ``google-genai`` SDK: its calls of the Gemini API and of Vertex AI. It is never imported here."""
