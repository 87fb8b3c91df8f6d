"""Being on Ray: sessions, storage, resources, and stages that run once."""
