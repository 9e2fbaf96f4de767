"""The last fallback of the loader: programs compiled in the guest where CO-RE cannot work."""
