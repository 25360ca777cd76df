"""What people see of a run: a page that follows a run's log, and pages and tables of results."""
