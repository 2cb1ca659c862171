"""The play of publishers and subscribers, with a broker that is killed."""
