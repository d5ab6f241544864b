"""HTTP in front of the services: REST, live video, the talk page. A client of the others; holds no media code."""
