"""Who may ask for what: keys and tenants, routes and their audiences, names of hosts."""
