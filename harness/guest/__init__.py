"""The only room that talks to paramiko: files, commands and the self-test channel."""
