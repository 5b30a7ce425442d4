"""The witness service: gRPC, the sign path, policy, commands, operations."""
