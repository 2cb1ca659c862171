"""The play of writers and a host whose listener echoes."""
