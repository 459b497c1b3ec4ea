"""Station 3: what is being asked? Service, operation, parameters, IAM actions and resources, from the request alone."""
