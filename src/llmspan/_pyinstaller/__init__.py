"""What PyInstaller runs when it builds a program that imports llmspan."""
