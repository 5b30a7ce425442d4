from witness_service.demo.main_job import main

raise SystemExit(main())
