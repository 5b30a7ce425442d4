"""Generated from proto/witness_service/v1 by script/generate."""
