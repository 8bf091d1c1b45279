"""The hooks of SDKs that Stainless generates (openai, anthropic): their base client, streams, retries and extras."""
